"""The Prefect server that stays: used when it is up, started when it is not, stopped on request.

One server serves one data folder. What is known about it is in ``prefect/server.json`` there; a lock file
beside it lets several processes ask at once and start one. The server outlives whoever started it.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deployments.settings import ServerAddress, ServerSettings, base_url, server_environment
from imaging.errors import NirflowError

log = logging.getLogger(__name__)

POLL = 0.05  # s between two looks at a server that starts or a lock that is held


class ServerError(NirflowError):
    """The Prefect server cannot be reached, started or stopped."""


@dataclass(frozen=True)
class ServerState:
    """What the state file holds: enough to tell our server from a stranger with its process id.

    Parameters
    ----------
    pid
        Process id.
    birth
        Boot id and start time in clock ticks since boot: no two processes share pid and birth.
    host, port
        Where it listens.
    wanted_port
        The port that the settings asked for when it started.
    """

    pid: int
    birth: str
    host: str
    port: int
    wanted_port: int


@dataclass(frozen=True)
class ServerStatus:
    """What `server_status` tells."""

    running: bool
    ready: bool
    pid: int | None
    api_url: str | None
    ui_url: str | None
    log_file: Path | None


def ensure_server(
    data_dir: Path, *, timeout: float = 60.0, settings: ServerSettings | None = None
) -> ServerAddress:
    """Return a Prefect server that answers, starting one when none does.

    A server named by PREFECT_API_URL in the environment is taken as it is; nothing is started then.

    Parameters
    ----------
    data_dir
        The data folder; server, database and log live in it.
    timeout
        Seconds to wait for another process's start, and for our own.
    settings
        From the environment by default.

    Returns
    -------
    ServerAddress
        Give it to `deployments.settings.client_environment` before importing Prefect.

    Raises
    ------
    ServerError
        The named server does not answer, or ours did not start in time.
    """
    settings = settings or ServerSettings()
    folder = _folder(data_dir)
    state = _read_state(folder)
    named = os.environ.get("PREFECT_API_URL")
    # A process that has joined our server, and its children, find our own URL there.
    if named and not (state and named == _address(state, folder, started=False).api_url):
        return _named_server(named)
    if state and _is_alive(state) and _answers(state):
        return _address(state, folder, started=False)
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    with _locked(folder / "server.lock", deadline):
        state = _read_state(folder)  # another process may have started it while we waited
        if state and _is_alive(state):
            # It starts, or its database is down: the database is ours to bring up, the rest takes time.
            _database_url(data_dir, settings)
            if _wait_until_ready(state, min(deadline, time.monotonic() + timeout / 2)):
                return _address(state, folder, started=False)
            log.warning("Prefect server (process %d) is alive but does not answer; restarting it.", state.pid)
            _end(state, settings.stop_grace)
        state = _start(data_dir, folder, settings, remembered=state)
        if not _wait_until_ready(state, deadline):
            problem = "ended while starting" if not _is_alive(state) else f"did not answer in {timeout:g} s"
            _end(state, settings.stop_grace)
            raise ServerError(
                f"The Prefect server {problem}.\n{_tail(_log_file(data_dir))}",
                remedy=f"See {_log_file(data_dir)}; `nirflow server start` tries again.",
            )
    return _address(state, folder, started=True)


def server_status(data_dir: Path) -> ServerStatus:
    """Tell whether this data folder's server runs and whether it and its database answer."""
    state = _read_state(_folder(data_dir))
    if state is None or not _is_alive(state):
        return ServerStatus(False, False, None, None, None, None)
    url = base_url(state.host, state.port)
    return ServerStatus(True, _answers(state), state.pid, f"{url}/api", url, _log_file(data_dir))


def stop_server(data_dir: Path, *, settings: ServerSettings | None = None) -> bool:
    """Stop this data folder's server: SIGTERM, then SIGKILL after the grace time.

    Returns
    -------
    bool
        False when none was running.

    Raises
    ------
    ServerError
        Another process holds the lock (it is starting the server) for too long.
    """
    settings = settings or ServerSettings()
    folder = _folder(data_dir)
    if not folder.is_dir():
        return False
    with _locked(folder / "server.lock", time.monotonic() + 60):
        state = _read_state(folder)
        if state is None or not _is_alive(state):
            return False
        _end(state, settings.stop_grace)
        return True


def _folder(data_dir: Path) -> Path:
    return data_dir.resolve() / "prefect"


def _log_file(data_dir: Path) -> Path:
    return data_dir.resolve() / "logs" / "prefect-server.log"


def _address(state: ServerState, folder: Path, *, started: bool) -> ServerAddress:
    url = base_url(state.host, state.port)
    return ServerAddress(api_url=f"{url}/api", ui_url=url, pid=state.pid, started=started, home=folder)


def _named_server(api_url: str) -> ServerAddress:
    api_url = api_url.rstrip("/")
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=10):
            pass
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServerError(
            f"PREFECT_API_URL = {api_url} does not answer: {error}.",
            remedy="Start that server, correct the URL, or unset PREFECT_API_URL to use nirflow's own.",
        ) from error
    return ServerAddress(api_url, api_url.removesuffix("/api"), pid=None, started=False, home=None)


# --- starting and ending -------------------------------------------------------------------------


def _start(
    data_dir: Path, folder: Path, settings: ServerSettings, *, remembered: ServerState | None
) -> ServerState:
    database_url = _database_url(data_dir, settings)
    listener = _bind(settings, remembered)
    with listener:
        port = listener.getsockname()[1]
        environment = server_environment(settings, home=folder, port=port, database_url=database_url)
        log_file = _log_file(data_dir)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as sink:
            # The home folder as working folder: Prefect would read a stray .env or prefect.toml elsewhere.
            launched = subprocess.run(
                [sys.executable, "-m", "deployments.serve", "--fd", str(listener.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=environment,
                cwd=folder,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
                check=False,
                text=True,
            )
    if launched.returncode != 0:
        raise ServerError(
            f"The Prefect server could not be launched.\n{_tail(log_file)}", remedy=f"See {log_file}."
        )
    pid = int(launched.stdout)
    state = ServerState(pid, _birth(pid) or "gone", settings.host, port, settings.port)
    _write_state(folder, state)
    log.info("Prefect server starting (process %d) at %s", pid, base_url(state.host, port))
    return state


def _database_url(data_dir: Path, settings: ServerSettings) -> str:
    if settings.database_url is not None:
        scheme, _, rest = settings.database_url.get_secret_value().partition("://")
        if scheme.partition("+")[0] not in {"postgresql", "postgres"} or not rest:
            raise ServerError(
                "NIRFLOW_SERVER_DATABASE_URL is not a PostgreSQL URL.",
                remedy="Write it as postgresql://user:password@host/database.",
            )
        return f"postgresql+asyncpg://{rest}"
    from calib_store import postgres

    return postgres.ensure_running(data_dir).prefect_url()


def _bind(settings: ServerSettings, remembered: ServerState | None) -> socket.socket:
    """Bind the port of last time, else the one asked for, else any: bookmarks of the UI stay good."""
    ports = [settings.port, 0]
    if remembered and remembered.wanted_port == settings.port:
        ports.insert(0, remembered.port)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for port in dict.fromkeys(ports):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if port == 0:
                raise ServerError(
                    f"Cannot listen on {settings.host}: {error}.", remedy="Set NIRFLOW_SERVER_HOST."
                ) from error
            log.info("Port %d is taken; another one will do.", port)
            continue
        return listener
    raise AssertionError("port 0 either binds or raises")


def _end(state: ServerState, grace: float) -> None:
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        if not _is_alive(state):
            return
        try:
            os.kill(state.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while _is_alive(state) and time.monotonic() < deadline:
            time.sleep(POLL)
    if _is_alive(state):
        raise ServerError(f"Process {state.pid} does not end.", remedy="Look at it with ps; reboot if stuck.")


# --- knowing whether it is there -----------------------------------------------------------------


def _birth(pid: int) -> str | None:
    """Return boot id and start time of a live process; None when there is none or it is a zombie."""
    process = Path(f"/proc/{pid}")
    try:
        stat = (process / "stat").read_text()
        threads = sum(1 for _ in (process / "task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before may hold blanks; see proc_pid_stat(5)
    condition, start_ticks = fields[0], fields[19]
    # Of a killed process the first thread is a zombie at once; the others may hold the port a moment more.
    if condition in "ZX" and threads <= 1:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{start_ticks}"


def _is_alive(state: ServerState) -> bool:
    return _birth(state.pid) == state.birth


def _answers(state: ServerState, timeout: float = 2.0) -> bool:
    """Ask ``/api/ready``: the server answers and reaches its database."""
    host, _, port = base_url(state.host, state.port).removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)
    try:
        connection.request("GET", "/api/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait_until_ready(state: ServerState, deadline: float) -> bool:
    # The socket listens from the first moment on, so one request waits for as long as the start takes.
    while (left := deadline - time.monotonic()) > 0 and _is_alive(state):
        if _answers(state, timeout=min(left, 1.0)):
            return True
        time.sleep(POLL)
    return False


# --- files ---------------------------------------------------------------------------------------


def _read_state(folder: Path) -> ServerState | None:
    try:
        return ServerState(**json.loads((folder / "server.json").read_text()))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, TypeError) as error:
        log.warning("%s is damaged and will be replaced: %s", folder / "server.json", error)
        return None


def _write_state(folder: Path, state: ServerState) -> None:
    aside = folder / f"server.json.{os.getpid()}"
    aside.write_text(json.dumps(asdict(state), indent=1))
    aside.replace(folder / "server.json")


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    """Hold an advisory lock on a file; the kernel frees it when its holder dies."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"Another process has been starting or stopping the Prefect server for too long "
                        f"(it holds {path}).",
                        remedy="Wait for it or end it, then try again.",
                    ) from None
                time.sleep(POLL)
        yield


def _tail(path: Path, lines: int = 15) -> str:
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])

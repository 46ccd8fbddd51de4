"""The permanent Prefect server: used if it is running, started if not, stopped on request.

Each data folder has one server. Its state is in ``prefect/server.json`` there; with the lock file next to that, several
processes can need a server at once and start only one. The server outlives the process that started it.
"""

from __future__ import annotations

import itertools
import logging
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from calib_store.private import private_folder
from deployments import processes
from deployments.access import password
from deployments.http_client import NoAnswerError, ask
from deployments.prefect_server import ports
from deployments.prefect_server.server_setup import digest, environment_of
from deployments.prefect_server.server_state import (
    ServerState,
    answers,
    is_alive,
    keeps_port,
    read_state,
    wait_until_ready,
    write_state,
)
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import (
    ROLES,
    ServerAddress,
    ServerSettings,
    base_url,
    named_address,
)

log = logging.getLogger(__name__)

_WHAT: Final = "the Prefect server"
#: Time for a start, by this or another process, s. Far longer than a busy machine needs: a server that is given up is
#: killed, and the events that it has in memory are lost.
PATIENCE: Final = 300.0
#: Time for a named server to respond, s.
_ANSWER: Final = 10.0


class ServerError(processes.ProcessError):
    """The Prefect server cannot be reached, started or stopped."""


@dataclass(frozen=True)
class ServerStatus:
    """The status of a data folder's server, from `server_status`."""

    running: bool
    ready: bool
    pid: int | None
    api_url: str | None
    ui_url: str | None
    log_file: Path | None


def ensure_server(
    data_dir: Path, *, timeout: float = PATIENCE, settings: ServerSettings | None = None, renew: bool = False
) -> ServerAddress:
    """Return a Prefect server that responds, starting one if necessary.

    A server named by PREFECT_API_URL in the environment is used as it is; nothing is started then. Our own always
    requires a password: if the settings have none, one is created (`deployments.access.password`). Until it ends, this
    process protects the server's port from other accounts.

    Parameters
    ----------
    data_dir
        The data folder, which contains server state, database and log.
    timeout
        Seconds to wait for another process's start, and for our own.
    settings
        Default: from the environment.
    renew
        Restart a server that was started with other settings, at the port in the settings if that is free.

    Returns
    -------
    ServerAddress
        Pass it to `deployments.settings.server_settings.client_environment` before importing Prefect.

    Raises
    ------
    ServerError
        The named server does not respond, or ours did not start in time.
    """
    settings = settings or Settings().server
    check_password(settings)
    folder = _folder(data_dir)
    state = read_state(folder)
    named = os.environ.get("PREFECT_API_URL")
    # In a process connected to our server, and in its children, the variable has our own URL.
    if named and not (state and named == _address(state, folder, settings, started=False).api_url):
        return _named_server(named, settings)
    if state and is_alive(state) and answers(state) and not (renew and _differs(state, data_dir, settings)):
        return _address(state, folder, settings, started=False)
    private_folder(folder)
    settings = with_password(settings, data_dir)
    deadline = time.monotonic() + timeout
    with processes.locked(folder / "server.lock", deadline, _WHAT):
        state = read_state(folder)  # another process may have started it while we waited
        if renew and state and is_alive(state) and _differs(state, data_dir, settings):
            log.info("The Prefect server was started with other settings and is being restarted.")
            processes.end(state.pid, state.birth, settings.stop_grace)
        if state and is_alive(state):
            # It is starting, or its database is down: start the database and wait for the rest.
            database_url_of(data_dir, settings)
            if wait_until_ready(state, min(deadline, time.monotonic() + timeout / 2)):
                return _address(state, folder, settings, started=False)
            log.warning(
                "The Prefect server (process %d) is running but does not respond; restarting it.", state.pid
            )
            processes.end(state.pid, state.birth, settings.stop_grace)
        state = _start(data_dir, folder, settings, remembered=state, renew=renew)
        if not wait_until_ready(state, deadline):
            problem = (
                "ended while starting" if not is_alive(state) else f"did not respond within {timeout:g} s"
            )
            processes.end(state.pid, state.birth, settings.stop_grace)
            raise ServerError(
                f"The Prefect server {problem}.",
                details=processes.tail(_log_file(data_dir)),
                remedy=f"See {_log_file(data_dir)}; to try again: nirflow server start.",
            )
    return _address(state, folder, settings, started=True)


def server_status(data_dir: Path) -> ServerStatus:
    """Return whether this data folder's server is running and whether it and its database respond."""
    state = read_state(_folder(data_dir))
    if state is None or not is_alive(state):
        return ServerStatus(False, False, None, None, None, None)
    url = base_url(state.host, state.port)
    return ServerStatus(True, answers(state), state.pid, f"{url}/api", url, _log_file(data_dir))


def stop_server(data_dir: Path, *, settings: ServerSettings | None = None) -> bool:
    """Stop this data folder's server: SIGTERM, then SIGKILL after the grace time.

    Returns
    -------
    bool
        False when none was running.

    Raises
    ------
    ServerError
        Another process is starting the server, and has held the lock for too long.
    """
    settings = settings or Settings().server
    folder = _folder(data_dir)
    if not folder.is_dir():
        return False
    with processes.locked(folder / "server.lock", time.monotonic() + PATIENCE, _WHAT):
        state = read_state(folder)
        if state is None:
            return False
        was_up = is_alive(state)
        if was_up:
            processes.end(state.pid, state.birth, settings.stop_grace)
        ports.release(state.host, state.port)
        return was_up


def has_other_settings(data_dir: Path, settings: ServerSettings) -> bool:
    """Return whether the server is running and was started with other settings, its address aside."""
    state = read_state(_folder(data_dir))
    if state is None or not is_alive(state):
        return False
    return state.setup != _setup_at(state, data_dir, settings.model_copy(update={"host": state.host}))


def _folder(data_dir: Path) -> Path:
    return data_dir.resolve() / "prefect"


def _log_file(data_dir: Path) -> Path:
    return data_dir.resolve() / "logs" / "prefect-server.log"


def own_address(data_dir: Path, settings: ServerSettings) -> ServerAddress | None:
    """Return the address and password of this data folder's server; None if it is down or another has its port."""
    folder = _folder(data_dir)
    state = read_state(folder)
    if state is None or not is_alive(state) or not keeps_port(state):
        return None
    return _address(state, folder, settings, started=False)


def _address(state: ServerState, folder: Path, settings: ServerSettings, *, started: bool) -> ServerAddress:
    url = base_url(state.host, state.port)
    return ServerAddress(
        api_url=f"{url}/api",
        ui_url=settings.public_url or url,
        pid=state.pid,
        started=started,
        home=folder,
        # A server started by an earlier nirflow requires the password of the settings, or none.
        auth=password.known(folder.parent, settings) if state.closed else settings.auth_string,
    )


def check_password(settings: ServerSettings) -> None:
    """Check that the passwords in the settings are usable and that no two roles have the same user name.

    Raises
    ------
    ServerError
        If that is not so.
    """
    roles = {"NIRFLOW_SERVER_AUTH or PREFECT_SERVER_API_AUTH_STRING": settings.auth_string}
    given = (settings.viewer_auth, settings.operator_auth)
    roles |= {
        name: secret.get_secret_value()
        for name, secret in zip(ROLES, given, strict=True)
        if secret is not None
    }
    for name, auth in roles.items():
        if auth is not None and not password.is_usable(auth):
            raise ServerError(
                "A password of the Prefect server is not USER:PASSWORD: it must be a name, a colon and a password.",
                remedy=f"Correct {name}.",
            )
    known = [auth for auth in roles.values() if auth is not None]
    if any(password.same_user(one, other) for one, other in itertools.combinations(known, 2)):
        raise ServerError(
            "Two roles of the Prefect server have the same user name, under which decisions are logged.",
            remedy=f"Correct one of {', '.join(name for name, auth in roles.items() if auth is not None)}.",
        )


def with_password(settings: ServerSettings, data_dir: Path) -> ServerSettings:
    """Return the settings with the password of this data folder, which is created if missing.

    Raises
    ------
    ServerError
        If another role has the owner's user name.
    """
    ours = settings.model_copy(update={"auth": SecretStr(password.ensure(data_dir, settings))})
    check_password(ours)
    return ours


def _named_server(api_url: str, settings: ServerSettings) -> ServerAddress:
    api_url = api_url.rstrip("/")
    try:
        answer = ask("GET", f"{api_url}/health", timeout=_ANSWER, read=False)
        problem = "" if answer.ok else f"{answer.status} {answer.reason}"
    except NoAnswerError as error:
        problem = str(error)
    if problem:
        raise ServerError(
            f"PREFECT_API_URL = {api_url} does not respond: {problem}.",
            remedy="Start that server, correct the URL, or unset PREFECT_API_URL to use nirflow's own.",
        )
    return named_address(api_url, settings)


# --- starting and ending -------------------------------------------------------------------------


def _start(
    data_dir: Path, folder: Path, settings: ServerSettings, *, remembered: ServerState | None, renew: bool
) -> ServerState:
    database_url = database_url_of(data_dir, settings, start=False)
    listener = _bind(settings, remembered, renew)
    # The server imports modules while the database starts, and continues when the pipe is closed.
    waits, released = os.pipe()
    with listener, open(waits, "rb"), open(released, "wb") as release:  # noqa: PTH123  # descriptors
        port = listener.getsockname()[1]
        ports.hold(settings.host, port)  # before any client connects, when nothing can interfere
        environment = environment_of(settings, folder, port, database_url)
        log_file = _log_file(data_dir)
        private_folder(log_file.parent)
        with log_file.open("ab") as sink:
            # The home folder as working folder: Prefect would read a stray .env or prefect.toml elsewhere.
            launched = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "deployments.prefect_server.serve",
                    "--fd",
                    str(listener.fileno()),
                    "--after",
                    str(waits),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=environment,
                cwd=folder,
                pass_fds=(listener.fileno(), waits),
                start_new_session=True,
                check=False,
                text=True,
            )
        if launched.returncode != 0:
            raise ServerError(
                "The Prefect server could not be launched.",
                details=processes.tail(log_file),
                remedy=f"See {log_file}.",
            )
        pid = int(launched.stdout)
        state = ServerState(
            pid,
            processes.birth(pid) or "gone",
            settings.host,
            port,
            settings.port,
            digest(environment),
            closed=True,
        )
        if remembered and (remembered.host, remembered.port) != (state.host, state.port):
            ports.release(remembered.host, remembered.port)
        write_state(folder, state)
        log.info("Prefect server starting (process %d) at %s", pid, base_url(state.host, port))
        try:
            database_url_of(data_dir, settings)
        except BaseException:
            processes.end(pid, state.birth, 0)
            raise
        release.close()
    return state


def _differs(state: ServerState, data_dir: Path, settings: ServerSettings) -> bool:
    current = (state.host, state.wanted_port, state.setup)
    return current != (settings.host, settings.port, _setup_at(state, data_dir, settings))


def _setup_at(state: ServerState, data_dir: Path, settings: ServerSettings) -> str:
    """Return the digest of a server started with these settings at the port of this one."""
    settings = with_password(settings, data_dir)
    url = database_url_of(data_dir, settings, start=False)
    return digest(environment_of(settings, _folder(data_dir), state.port, url))


def database_url_of(data_dir: Path, settings: ServerSettings, *, start: bool = True) -> str:
    """Return the URL of Prefect's own database, with its driver; by default, start an embedded server.

    Raises
    ------
    ServerError
        If the settings name something other than a PostgreSQL database.
    """
    if settings.database_url is not None:
        scheme, _, rest = settings.database_url.get_secret_value().partition("://")
        if scheme.partition("+")[0] not in {"postgresql", "postgres"} or not rest:
            raise ServerError(
                "NIRFLOW_SERVER_DATABASE_URL is not a PostgreSQL URL.",
                remedy="Write it as postgresql://user:password@host/database.",
            )
        return f"postgresql+asyncpg://{rest}"
    from calib_store.server import postgres

    address = postgres.ensure_running(data_dir) if start else postgres.address_of(data_dir)
    return address.prefect_url()


def _bind(settings: ServerSettings, remembered: ServerState | None, renew: bool) -> socket.socket:
    """Bind the server's last port, for its clients, or the one in the settings (``renew``: that first), or any."""
    wanted = [settings.port, 0]
    if remembered and remembered.wanted_port == settings.port:
        wanted.insert(1 if renew else 0, remembered.port)
    for port in dict.fromkeys(wanted):
        ours = remembered is not None and (remembered.host, remembered.port) == (settings.host, port)
        try:
            return ports.listen(settings.host, port, left_behind=ours)
        except OSError as error:
            if port == 0:
                raise ServerError(
                    f"Cannot listen on {settings.host}: {error}.", remedy="Set NIRFLOW_SERVER_HOST."
                ) from error
            log.info("Port %d is taken; trying another.", port)
    raise AssertionError("port 0 either binds or raises")

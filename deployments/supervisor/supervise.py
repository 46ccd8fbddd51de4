"""The supervisor, ``python -m deployments.supervisor.supervise``: starts, restarts and ends all parts.

The parts are the embedded PostgreSQL and the Prefect server (both also used by `nirflow reduce`, and found by their own
state files), the worker, the watcher and the judge. This process stays small: it never imports Prefect.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from calib_store.private import private_folder
from calib_store.server import postgres
from deployments import processes
from deployments.notices.outbox import keep, keep_delivering
from deployments.prefect_api.names import POOL, worker_name
from deployments.prefect_api.rest import Rest
from deployments.prefect_server.server import ensure_server, stop_server
from deployments.printable_output import make_output_printable
from deployments.registry.register import encoded_address
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import ServerAddress, strays
from deployments.status.supervisor_state import PartState, ServiceState, folder_of, log_of, write_state
from deployments.status.wording import OFTEN
from deployments.supervisor.command import SILENCE, part_environment, worker_command
from deployments.supervisor.part import LATELY, Part, Restarts
from deployments.supervisor.service import end_runs, environment_of
from imaging.errors import NirflowError
from imaging.io.atomic import take_lock

logger = logging.getLogger(__name__)

#: Size from which a log file is emptied, with one previous version kept, bytes.
LOG_LIMIT: Final = 20 * 1024**2
#: Time between two checks of the parts, s.
_CHECK: Final = 1.0
#: Time between two checks of the server's responses and the worker's heartbeats, s.
_HEALTH_CHECK: Final = 15.0


class Supervisor:
    """A supervisor, which keeps everything running until it is stopped.

    Parameters
    ----------
    settings
        Settings of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = folder_of(settings)
        self.stopping = threading.Event()
        self.parts: list[Part] = []
        self._server: ServerAddress | None = None
        self._server_restarts = Restarts()
        self._server_note = ""
        self._reported: dict[str, float] = {}
        self._started = time.time()
        self._written: ServiceState | None = None

    def run(self) -> int:
        """Start, watch and stop everything; return the exit code."""
        try:
            private_folder(log_of(self.settings, "nirflow").parent)
            self._write_state()
            delivering = threading.Thread(
                target=keep_delivering, args=(self.settings, self.stopping), name="notices", daemon=True
            )
            delivering.start()
            self._start()
            self._write_state(ready=True)
            logger.info(
                "Everything is running; the UI is at %s", self._server.ui_url if self._server else "?"
            )
            self._watch()
        except (NirflowError, OSError) as error:
            logger.error("%s", error)
            with suppress(NirflowError, OSError):
                self._write_state(failed=str(error))
            return 1
        finally:
            self._stop()
        self._write_state()
        return 0

    def _start(self) -> None:
        settings = self.settings
        # The server takes seconds to start, in which the registration imports the flows.
        with self._registering() as registration:
            self._server = ensure_server(settings.data_dir, settings=settings.server, renew=True)
            environment = self._environment()
            if settings.worker.enabled:
                Rest(self._server.api_url, self._server.auth).make_pool(POOL, settings.worker.limit)
                self._add("worker", worker_command(), environment)
            registration.communicate(encoded_address(self._server))
        if registration.returncode != 0:
            log = log_of(settings, "register")
            raise processes.ProcessError(
                "The registration with the Prefect server failed.",
                details=processes.tail(log),
                remedy=f"See {log}.",
            )
        if settings.watch.folders:
            self._add("watcher", [sys.executable, "-m", "deployments.arrivals.main"], environment)
            if settings.judge.enabled:
                self._add("judge", [sys.executable, "-m", "deployments.judging.judge_process"], environment)
        self._wait_for_worker()

    def _environment(self) -> dict[str, str]:
        assert self._server is not None
        base = environment_of(self.settings)
        kept = {name: value for name, value in base.items() if name not in strays(base)}
        return kept | part_environment(self.settings, self._server)

    @contextmanager
    def _registering(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start the process that registers everything; it reads the server's address from standard input."""
        with log_of(self.settings, "register").open("ab") as sink, subprocess.Popen(
            [sys.executable, "-m", "deployments.registry.register"], stdin=subprocess.PIPE, stdout=sink, stderr=sink,
            env=environment_of(self.settings), cwd=self.folder,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()

    def _add(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        part = Part(name, command, environment, log_of(self.settings, name))
        part.start(self.folder)
        self.parts.append(part)

    @property
    def _worker(self) -> Part | None:
        return next((part for part in self.parts if part.name == "worker"), None)

    def _wait_for_worker(self) -> None:
        """Wait for the worker's first heartbeat, after which requested runs begin at once."""
        worker = self._worker
        deadline = time.monotonic() + 60
        while worker is not None and time.monotonic() < deadline and not self.stopping.wait(0.2):
            if not worker.running:
                raise processes.ProcessError(
                    "The worker ended while starting.",
                    details=processes.tail(worker.log),
                    remedy=f"See {worker.log}.",
                )
            silence = self._worker_silence()
            if silence is not None and silence < time.time() - worker.since + 1:
                return

    # --- while it runs

    def _watch(self) -> None:
        checked, trouble = time.monotonic(), ""
        while not self.stopping.wait(_CHECK):
            thorough = time.monotonic() - checked > _HEALTH_CHECK
            try:
                for part in self.parts:
                    part.check(self.folder)
                if thorough:
                    checked = time.monotonic()
                    self._check_server()
                    self._check_worker()
                    self._report_restarts()
                    for log in log_of(self.settings, "nirflow").parent.glob("*.log"):
                        processes.trim(log, LOG_LIMIT)
                self._write_state(ready=True)
                if thorough:
                    trouble = ""
            except (NirflowError, OSError) as error:
                # Such as a full disk or a limit of processes: it may pass, and the supervisor must survive it.
                if str(error) != trouble:
                    logger.error("%s Trying again.", error)
                trouble = str(error)

    def _check_server(self) -> None:
        """Restart the server and its database if they do not respond."""
        try:
            address = ensure_server(self.settings.data_dir, settings=self.settings.server)
        except (NirflowError, OSError) as error:  # it may pass: a full disk, a busy machine
            self._server_note = str(error).splitlines()[0]
            logger.error("The Prefect server could not be started, trying again: %s", error)
            return
        self._server_note = ""
        if address.started:
            self._server_restarts.ended("ended, or did not respond,")
            self._server_restarts.restarted()
            logger.warning("The Prefect server was restarted (process %s)", address.pid)
        moved = self._server is not None and address.api_url != self._server.api_url
        self._server = address
        if moved:  # another program took its port while it was down
            for part in self.parts:
                part.environment = self._environment()
                part.end(group=part.name == "worker")

    def _check_worker(self) -> None:
        worker = self._worker
        if worker is None or not worker.running or time.time() - worker.since < SILENCE:
            return
        silence = self._worker_silence()
        if silence is not None and silence > SILENCE:
            logger.warning("The worker has sent no heartbeat for %.0f s and is restarted", silence)
            worker.end()

    def _report_restarts(self) -> None:
        """Notify of parts that restart often, once within an hour."""
        now = time.monotonic()
        restarts = {**{part.name: part.restarts for part in self.parts}, "server": self._server_restarts}
        for name, one in restarts.items():
            if one.recent < OFTEN or now - self._reported.get(name, -LATELY) < LATELY:
                continue
            self._reported[name] = now
            text = f"It was restarted {one.recent} times within the last hour; it {one.last_end}."
            logger.warning("The %s restarts often. %s", name, text)
            if "restart" in self.settings.notify.on:
                keep(
                    self.settings,
                    f"nirflow: the {name} restarts often",
                    f"{text}\nSee nirflow status and the logs.",
                )

    def _worker_silence(self) -> float | None:
        """Return the seconds since the last heartbeat of this machine's worker; None if unknown."""
        assert self._server is not None
        rest = Rest(self._server.api_url, self._server.auth)
        try:
            return rest.seconds_since_heartbeat(POOL, worker_name())
        except NirflowError:
            return None

    # --- the end

    def _stop(self) -> None:
        for part in reversed(self.parts):
            # The runs of a worker end with it: their finished products are in the store.
            part.end(group=part.name == "worker")
        end_runs(self.settings)
        self._reschedule_runs()
        stop_server(self.settings.data_dir, settings=self.settings.server)
        self._server = None
        if self.settings.data_dir.is_dir():
            postgres.stop(self.settings.data_dir.expanduser().resolve())
        logger.info("Stopped")

    def _reschedule_runs(self) -> None:
        """Reschedule the runs that ended with the worker for the next start, without a notification."""
        if self._server is None or self._worker is None:
            return
        try:
            stopped = Rest(self._server.api_url, self._server.auth).reschedule(worker_name())
        except NirflowError as error:
            logger.warning("%s Interrupted runs will count as crashed, and be restarted.", error)
            return
        for name in stopped:
            logger.info("%s was interrupted; it continues at the next start", name)

    def _write_state(self, *, ready: bool = False, failed: str = "") -> None:
        pid = os.getpid()
        server = PartState(
            name="server", pid=self._server.pid if self._server else None,
            running=self._server is not None and not self._server_note,
            restarts=self._server_restarts.number, recent=self._server_restarts.recent,
            last_end=self._server_restarts.last_end,
            log=log_of(self.settings, "prefect-server"), note=self._server_note,
        )  # fmt: skip
        state = ServiceState(
            pid=pid, birth=processes.birth(pid) or "", started=self._started, ready=ready, failed=failed,
            ui_url=self._server.ui_url if self._server else "", host=self.settings.server.host,
            password=True,
            api_url=self._server.api_url if self._server else "", watched=self.settings.watch.folders,
            nights=self.settings.nights, parts=(server, *(part.state() for part in self.parts)),
        )  # fmt: skip
        if state != self._written:
            write_state(self.settings, state)
            self._written = state


def supervise(settings: Settings) -> int:
    """Run everything in the foreground until SIGTERM or SIGINT; return the exit code.

    Raises
    ------
    ProcessError
        If another process does so for this data folder.
    """
    folder = folder_of(settings)
    private_folder(folder)
    held = take_lock(folder / "supervisor.lock")
    if held is None:
        raise processes.ProcessError(
            f"nirflow is already running or starting for {settings.data_dir}.", remedy="Stop it: nirflow down"
        )
    supervisor = Supervisor(settings)

    def stop(number: int, frame: Any) -> None:
        supervisor.stopping.set()

    handlers: dict[int, Callable[[int, Any], None]] = {signal.SIGTERM: stop, signal.SIGINT: stop}
    for number, handler in handlers.items():
        signal.signal(number, handler)
    with held:
        return supervisor.run()


def main() -> int:
    """Run the supervisor that the environment describes."""
    make_output_printable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        return supervise(Settings())
    except processes.ProcessError as error:
        logger.error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""The service that ``nirflow up`` starts: one supervisor per data folder, identified by its state file.

The state file ``service/state.json`` contains the supervisor's process, whether everything is running, and the status
of its parts.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from calib_store.model.settings import CONFIG, SECRETS, settings_file
from calib_store.private import private_folder
from calib_store.server import postgres
from deployments import processes
from deployments.prefect_server.server import stop_server
from deployments.processes import ProcessError
from deployments.settings.all_settings import Settings
from deployments.status.supervisor_state import ServiceState, folder_of, log_of, read_state
from tasks.prefect_internals.identifiers import ENGINE

logger = logging.getLogger(__name__)

#: Time for which `nirflow down` waits for the supervisor, which ends its parts first, s.
_STOP_GRACE: Final = 60.0
#: Time for a part that outlived its supervisor to end before it is killed, s.
_PART_GRACE: Final = 10.0
_WHAT: Final = "nirflow"


def start(settings: Settings, *, timeout: float = 600.0) -> tuple[ServiceState, bool]:
    """Start the supervisor if it is not running, and wait until everything is running.

    Parameters
    ----------
    settings
        Settings of the service. A running supervisor keeps those with which it was started.
    timeout
        How long to wait, s.

    Returns
    -------
    state
        State with everything running.
    started
        False if it was running already.

    Raises
    ------
    ProcessError
        If a part does not start; the message names it and has the end of its log.
    """
    folder = folder_of(settings)
    private_folder(folder)
    deadline = time.monotonic() + timeout
    with processes.locked(folder / "lock", deadline, _WHAT):
        state = read_state(settings)
        process = None
        if state is None or not state.alive:
            end_left_over(state)
            process = _spawn(settings)
        log = log_of(settings, "nirflow")
        while time.monotonic() < deadline:
            ended = process is not None and process.poll() is not None
            state = read_state(settings)
            if state is not None and state.alive and state.ready:
                return state, process is not None
            if state is not None and state.failed and not state.alive:
                what, _, details = state.failed.partition("\n")
                raise ProcessError(what, details=details, remedy=f"See {log}.")
            if ended or (process is None and (state is None or not state.alive)):
                raise ProcessError(
                    "nirflow ended while starting.", details=processes.tail(log), remedy=f"See {log}."
                )
            time.sleep(processes.POLL)
    raise ProcessError(
        f"nirflow did not start within {timeout:g} s.",
        details=processes.tail(log_of(settings, "nirflow")),
        remedy=f"See the logs in {log_of(settings, 'nirflow').parent}; nirflow status shows the status of each part.",
    )


def stop(settings: Settings) -> bool:
    """Stop the supervisor with all its parts; return False if nothing was running."""
    folder = folder_of(settings)
    if not folder.is_dir():
        return False
    with processes.locked(folder / "lock", time.monotonic() + _STOP_GRACE, _WHAT):
        state = read_state(settings)
        was_up = state is not None and state.alive
        if state is not None and was_up:
            processes.end(state.pid, state.birth, _STOP_GRACE)
            state = read_state(settings)
        # End what it left running, if it was killed now or earlier.
        left = end_left_over(state)
        end_runs(settings)
        if not left and not was_up:
            return False
        stop_server(settings.data_dir, settings=settings.server)
        postgres.stop(settings.data_dir.expanduser().resolve())
    return True


def end_left_over(state: ServiceState | None) -> bool:
    """End the parts that outlived a killed supervisor, with their children; return whether there were any.

    The servers are not among them: the next supervisor uses them again.
    """
    left = False
    for part in state.parts if state is not None else ():
        if part.pid is not None and part.birth and processes.is_alive(part.pid, part.birth):
            left = True
            processes.end(part.pid, part.birth, _PART_GRACE)
            processes.end_group(part.pid)
    return left


def end_runs(settings: Settings) -> None:
    """End the processes of flow runs of this data folder, including those that outlived their worker.

    Each has its own session, so signals to the worker's group do not reach it. A database that one of them restarted is
    kept: it is stopped later, after the processes that need it.
    """
    data = str(settings.data_dir.expanduser().resolve())
    for pid, born in processes.with_environment(
        ENGINE, PREFECT__FLOW_RUN_ID=None, NIRFLOW_DATA_DIR=data
    ).items():
        try:
            processes.end(pid, born, 0.0)
        except ProcessError as error:
            logger.warning("The process of a run does not end: %s", error)


def environment_of(settings: Settings, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment that gives another process the same settings.

    Arguments take precedence over variables and the file, so they become variables. Paths are absolute, as the process
    may have another working folder.
    """
    environment = dict(os.environ if base is None else base)
    environment["PYTHONSAFEPATH"] = "1"  # `python -m` must not import modules from the working folder
    if (file := settings_file()) is not None:
        environment[CONFIG] = str(file)
    if secrets := environment.get(SECRETS):
        environment[SECRETS] = str(Path(secrets).expanduser().absolute())
    if settings.nights_dir is not None:
        environment["NIRFLOW_NIGHTS_DIR"] = str(settings.nights)
    if settings.objects_url is not None and not urlsplit(settings.objects_url).scheme:
        environment["NIRFLOW_OBJECTS_URL"] = str(Path(settings.objects_url).expanduser().absolute())
    environment["NIRFLOW_DATA_DIR"] = str(settings.data_dir.expanduser().resolve())
    environment["NIRFLOW_WATCH_FOLDERS"] = json.dumps([str(f) for f in settings.watch.folders])
    environment["NIRFLOW_SERVER_HOST"] = settings.server.host
    return environment


def _spawn(settings: Settings) -> subprocess.Popen[bytes]:
    log = log_of(settings, "nirflow")
    private_folder(log.parent)
    (folder_of(settings) / "state.json").unlink(missing_ok=True)
    with log.open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "deployments.supervisor.supervise"], stdin=subprocess.DEVNULL, stdout=sink,
            stderr=sink, env=environment_of(settings), cwd=folder_of(settings), start_new_session=True,
        )  # fmt: skip

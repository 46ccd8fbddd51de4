"""What ``nirflow up`` starts: one supervisor a data folder, found again by its state file.

The state file ``service/state.json`` says who the supervisor is, whether all is up, and how its parts are.
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

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calib_store.model.settings import CONFIG, SECRETS, settings_file
from calib_store.private import private_folder
from calib_store.server import postgres
from deployments import processes
from deployments.prefect_server.server import stop_server
from deployments.processes import ProcessError
from deployments.settings.all_settings import Settings
from imaging.io.atomic import write_complete
from tasks.prefect_internals.identifiers import ENGINE

logger = logging.getLogger(__name__)

#: `nirflow down` waits this long for the supervisor: it ends its parts first, s.
_STOP_GRACE: Final = 60.0
#: A part that outlived its supervisor gets this long to end before it is killed, s.
_PART_GRACE: Final = 10.0
_WHAT: Final = "nirflow"


class PartState(BaseModel):
    """One part as the supervisor saw it last."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int | None = None
    birth: str = Field(default="", description="tells its process from another with the same pid")
    running: bool = False
    restarts: int = Field(default=0, description="how often it was started again since up")
    since: float | None = Field(default=None, description="start of the process, s since 1970")
    log: Path | None = None
    note: str = Field(default="", description="what ails it")

    @property
    def alive(self) -> bool:
        """Whether it runs now: it may have ended since the supervisor looked."""
        if not self.running or self.pid is None:
            return self.running
        born = processes.birth(self.pid)
        return born is not None and self.birth in (
            "",
            born,
        )  # the server's is not told: it outlives its supervisor


class ServiceState(BaseModel):
    """The supervisor and its parts."""

    model_config = ConfigDict(frozen=True)

    pid: int
    birth: str
    started: float = Field(description="s since 1970")
    ready: bool = False
    failed: str = Field(default="", description="why it gave up")
    ui_url: str = ""
    host: str = Field(default="", description="where the Prefect server was to listen")
    password: bool = Field(default=False, description="whether the Prefect server asks for one")
    api_url: str = Field(default="", description="by which this machine reaches the Prefect server")
    watched: tuple[Path, ...] = ()
    nights: Path = Path()
    parts: tuple[PartState, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether the supervisor is there."""
        return processes.is_alive(self.pid, self.birth)


def folder_of(settings: Settings) -> Path:
    """Folder of the state file and the lock."""
    return settings.data_dir.expanduser().resolve() / "service"


def log_of(settings: Settings, part: str) -> Path:
    """Log file of a part."""
    return settings.data_dir.expanduser().resolve() / "logs" / f"{part}.log"


def read_state(settings: Settings) -> ServiceState | None:
    """What the supervisor told last; None where there was none or its file makes no sense."""
    try:
        return ServiceState.model_validate_json((folder_of(settings) / "state.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write_state(settings: Settings, state: ServiceState) -> None:
    """Tell how things are; a reader sees the old state or the new one."""
    write_complete(folder_of(settings) / "state.json", [state.model_dump_json(indent=1).encode()], sync=False)


def start(settings: Settings, *, timeout: float = 600.0) -> tuple[ServiceState, bool]:
    """Start the supervisor, where none is there, and wait until all is up.

    Parameters
    ----------
    settings
        What to run. A supervisor that is there keeps those that it was started with.
    timeout
        How long to wait, s.

    Returns
    -------
    state
        With everything up.
    started
        False where it was there already.

    Raises
    ------
    ProcessError
        Where something does not start; says what, with the end of its log.
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
        f"nirflow was not up within {timeout:g} s.",
        details=processes.tail(log_of(settings, "nirflow")),
        remedy=f"See the logs in {log_of(settings, 'nirflow').parent}; nirflow status tells how each part is.",
    )


def stop(settings: Settings) -> bool:
    """Stop the supervisor with all its parts; False where none is there."""
    folder = folder_of(settings)
    if not folder.is_dir():
        return False
    with processes.locked(folder / "lock", time.monotonic() + _STOP_GRACE, _WHAT):
        state = read_state(settings)
        was_up = state is not None and state.alive
        if state is not None and was_up:
            processes.end(state.pid, state.birth, _STOP_GRACE)
            state = read_state(settings)
        # What it did not come to end itself: it was killed, now or before.
        left = end_left_over(state)
        end_runs(settings)
        if not left and not was_up:
            return False
        stop_server(settings.data_dir, settings=settings.server)
        postgres.stop(settings.data_dir.expanduser().resolve())
    return True


def end_left_over(state: ServiceState | None) -> bool:
    """End the parts that outlived a supervisor that was killed, with what they started; whether there were any.

    The servers are not among them: the next supervisor goes on with those.
    """
    left = False
    for part in state.parts if state is not None else ():
        if part.pid is not None and part.birth and processes.is_alive(part.pid, part.birth):
            left = True
            processes.end(part.pid, part.birth, _PART_GRACE)
            processes.end_group(part.pid)
    return left


def end_runs(settings: Settings) -> None:
    """End the processes of flow runs of this data folder, those too that outlived the worker that started them.

    Each is a session of its own, so that no signal to the worker's group reaches it. A database that one of them has
    started again stays: it is ended after what needs it.
    """
    data = str(settings.data_dir.expanduser().resolve())
    for pid, born in processes.with_environment(
        ENGINE, PREFECT__FLOW_RUN_ID=None, NIRFLOW_DATA_DIR=data
    ).items():
        try:
            processes.end(pid, born, 0.0)
        except ProcessError as error:
            logger.warning("A run's process does not end: %s", error)


def environment_of(settings: Settings, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment by which a process of its own comes to the same settings.

    What was given as an argument goes before variables and the file, so it becomes a variable. It may work in
    another folder: no path is relative to this one.
    """
    environment = dict(os.environ if base is None else base)
    environment["PYTHONSAFEPATH"] = "1"  # `python -m` finds no module in the folder that it works in
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

"""The state file of the supervisor, ``service/state.json`` in the data folder: its process and those of its parts."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments import processes
from deployments.settings.all_settings import Settings
from imaging.io.atomic import write_complete


class PartState(BaseModel):
    """The last known status of one part."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int | None = None
    birth: str = Field(default="", description="distinguishes its process from another with the same pid")
    running: bool = False
    restarts: int = Field(default=0, description="number of restarts since the service was started")
    recent: int = Field(default=0, description="number of restarts within the last hour")
    last_end: str = Field(default="", description="how it last ended, and when; empty if it never did")
    since: float | None = Field(default=None, description="start of the process, s since 1970")
    log: Path | None = None
    note: str = Field(default="", description="current problem, if any")

    @property
    def alive(self) -> bool:
        """Whether it is running now: it may have ended since the supervisor checked."""
        if not self.running or self.pid is None:
            return self.running
        born = processes.birth(self.pid)
        return born is not None and self.birth in (
            "",
            born,
        )  # unknown for the server, which outlives its supervisor


class ServiceState(BaseModel):
    """The supervisor and its parts."""

    model_config = ConfigDict(frozen=True)

    pid: int
    birth: str
    started: float = Field(description="s since 1970")
    ready: bool = False
    failed: str = Field(default="", description="why it gave up")
    ui_url: str = ""
    host: str = Field(default="", description="host setting of the Prefect server")
    password: bool = Field(default=False, description="whether the Prefect server requires one")
    api_url: str = Field(default="", description="URL at which this machine reaches the Prefect server")
    watched: tuple[Path, ...] = ()
    nights: Path = Path()
    parts: tuple[PartState, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether the supervisor is running."""
        return processes.is_alive(self.pid, self.birth)


def folder_of(settings: Settings) -> Path:
    """Return the folder of the state file and the lock."""
    return settings.data_dir.expanduser().resolve() / "service"


def log_of(settings: Settings, part: str) -> Path:
    """Return the log file of a part."""
    return settings.data_dir.expanduser().resolve() / "logs" / f"{part}.log"


def read_state(settings: Settings) -> ServiceState | None:
    """Read the supervisor's last state; return None if the file is missing or invalid."""
    try:
        return ServiceState.model_validate_json((folder_of(settings) / "state.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write_state(settings: Settings, state: ServiceState) -> None:
    """Write the state file atomically."""
    write_complete(folder_of(settings) / "state.json", [state.model_dump_json(indent=1).encode()], sync=False)

"""What a night's reduction tells when it has ended."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import Field

from tasks.references import LeftOut, ProductRef, Reference


class Failure(Reference):
    """A product that could not be made; the rest of the night went on."""

    step: str
    label: str
    message: str


class NightReport(Reference):
    """The outcome of a night."""

    products: tuple[ProductRef, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    failures: tuple[Failure, ...] = ()
    out: Path
    log_file: Path | None = None
    started: datetime
    seconds: float = Field(description="wall-clock time of the reduction, s")
    step_seconds: dict[str, float] = Field(
        default_factory=dict, description="time in each kind of step, summed over its tasks, s"
    )
    flow_run: str = Field(default="", description="name of the Prefect flow run")
    url: str = Field(default="", description="its page in the Prefect UI")

    @property
    def complete(self) -> bool:
        """Whether everything that the night's frames allow was made."""
        return not self.failures

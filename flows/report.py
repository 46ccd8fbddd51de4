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
    waits_for: str | None = Field(
        default=None, description="kind of calibration that none serves yet and that may come later"
    )


class Replaced(Reference):
    """A product that is superseded, and the one that took its place."""

    old: str
    new: str


class NightReport(Reference):
    """The outcome of a night."""

    products: tuple[ProductRef, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    failures: tuple[Failure, ...] = ()
    replaced: tuple[Replaced, ...] = Field(
        default=(),
        description="superseded by this run: made with something bad, or while something seemed bad",
    )
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
    def failed(self) -> tuple[Failure, ...]:
        """The failures that nothing is missing for."""
        return tuple(one for one in self.failures if one.waits_for is None)

    def awaited(self, *, by_science: bool = False) -> tuple[str, ...]:
        """Kinds of calibration that were missing; those that science lacks, where only these are asked for.

        A flat nearby may lack its darks while an older one serves the science well.
        """
        asked = [one for one in self.failures if one.step == "science" or not by_science]
        return tuple(dict.fromkeys(one.waits_for for one in asked if one.waits_for))

    def verdict(self) -> str:
        """The outcome in a line: what was made, failed and why, waits for a calibration, how much was left out."""
        reused = sum(product.reused for product in self.products)
        failed = [f"{one.label}: {one.message}" for one in self.failed]
        waits = [f"{one.label} waits for a {one.waits_for}" for one in self.failures if one.waits_for]
        counts = (
            f"{len(self.products) - reused} made, {reused} reused, {len(failed)} failed, {len(waits)} waiting"
        )
        if self.left_out:
            counts += f", {len(self.left_out)} left out"
        return ". ".join([counts, *(one.rstrip(".") for one in (*failed, *waits))]) + "."

    @property
    def complete(self) -> bool:
        """Whether everything that the night's frames allow was made."""
        return not self.failures

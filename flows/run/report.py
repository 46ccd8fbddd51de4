"""What a night's reduction tells when it has ended."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import Field

from tasks.support.references import LeftOut, ProductRef, Reference

#: A product that lacks more than this part of its group's frames leaves the run incomplete.
MOST_LEFT_OUT: Final = 0.1


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


class Kept(Reference):
    """A product that a run should have made again or replaced, and that stays as it is."""

    old: str
    reason: str
    remedy: str = ""


class NightReport(Reference):
    """The outcome of a night."""

    products: tuple[ProductRef, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    failures: tuple[Failure, ...] = ()
    replaced: tuple[Replaced, ...] = Field(
        default=(),
        description="superseded by this run: made with something bad, or while something seemed bad",
    )
    kept: tuple[Kept, ...] = Field(
        default=(), description="what was to be made again or superseded, and stays as it is"
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

    @property
    def lacking(self) -> tuple[ProductRef, ...]:
        """The products that lack more than a tenth of their group's frames."""
        return tuple(ref for ref in self.products if len(_lost(ref)) > MOST_LEFT_OUT * _group_size(ref))

    @property
    def incomplete(self) -> bool:
        """Whether something that should have been made was not, or was made of much fewer frames than there are."""
        return bool(self.failed or self.kept or self.lacking)

    def awaited(self, *, by_science: bool = False) -> tuple[str, ...]:
        """Kinds of calibration that were missing; those that science lacks, where only these are asked for.

        A flat nearby may lack its darks while an older one serves the science well.
        """
        asked = [one for one in self.failures if one.step == "science" or not by_science]
        return tuple(dict.fromkeys(one.waits_for for one in asked if one.waits_for))

    def verdict(self) -> str:
        """The outcome in a line: what was made, failed and why, waits for a calibration, lacks frames, was left out."""
        reused = sum(product.reused for product in self.products)
        failed = [f"{one.label}: {one.message}" for one in self.failed]
        waits = [f"{one.label} waits for a {one.waits_for}" for one in self.failures if one.waits_for]
        counts = (
            f"{len(self.products) - reused} made, {reused} reused, {len(failed)} failed, {len(waits)} waiting"
        )
        if self.left_out:
            counts += f", {len(self.left_out)} left out"
        lacking = [self.frames_lost(ref) for ref in self.lacking]
        kept = [f"{one.old} stays as it is: {one.reason}" for one in self.kept]
        texts = (*failed, *waits, *lacking, *kept)
        return ". ".join([counts, *(one.rstrip(".") for one in texts)]) + "."

    @staticmethod
    def frames_lost(ref: ProductRef) -> str:
        """How many frames of its group a product lacks, and which, by reason."""
        lost = _lost(ref)
        reasons: dict[str, list[str]] = {}
        for name, reason in lost.items():
            reasons.setdefault(reason, []).append(name)
        listed = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in reasons.items())
        return f"{ref.name} lacks {len(lost)} of {_group_size(ref)} frames ({listed})"


def _lost(ref: ProductRef) -> dict[str, str]:
    """The frames that a product should have been made of and was not, with the reason."""
    return {one.name: one.reason for one in ref.left_out if not one.expected}


def _group_size(ref: ProductRef) -> int:
    names: Iterable[str] = (*ref.inputs, *_lost(ref))
    return len(set(names))

"""The report of a night's reduction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import Field

from imaging.kinds import STACK
from tasks.support.references import LeftOut, Note, ProductRef, Reference

#: A run is incomplete if a product lacks more than this fraction of its group's frames.
MOST_LEFT_OUT: Final = 0.1


class Space(Reference):
    """The room that a disk lacked, or a quota."""

    folder: Path | None = Field(default=None, description="a folder or file on that disk, if known")
    needed: int = Field(ge=0, description="bytes that have to be free for a further attempt")


class Failure(Reference):
    """A product that could not be made; the rest of the night continued."""

    step: str
    label: str
    message: str
    waits_for: str | None = Field(
        default=None, description="kind of calibration that is missing and may come later"
    )
    space: Space | None = Field(default=None, description="the room that was missing on a full disk")


class Replaced(Reference):
    """A superseded product and the one that replaced it."""

    old: str
    new: str


class Kept(Reference):
    """A product that a run should have made again or replaced, and that was kept."""

    old: str
    reason: str
    remedy: str = ""


class NightReport(Reference):
    """The outcome of a night."""

    products: tuple[ProductRef, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[Note, ...] = Field(default=(), description="about frames and groups that were used")
    failures: tuple[Failure, ...] = ()
    replaced: tuple[Replaced, ...] = Field(
        default=(),
        description="superseded by this run: made with something that was rejected, or while it was rejected",
    )
    kept: tuple[Kept, ...] = Field(
        default=(), description="products that should have been made again or superseded, and were kept"
    )
    warnings: tuple[str, ...] = Field(
        default=(), description="what may go wrong on this machine: little room"
    )
    space: Space | None = Field(
        default=None, description="the room that a product or a frame lacked, if a disk was full"
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
        """The failures that do not wait for a calibration."""
        return tuple(one for one in self.failures if one.waits_for is None)

    @property
    def lacking(self) -> tuple[ProductRef, ...]:
        """The products that lack more than a tenth of their group's frames."""
        return tuple(ref for ref in self.products if len(_lost(ref)) > MOST_LEFT_OUT * _group_size(ref))

    @property
    def incomplete(self) -> bool:
        """Whether a product is missing, or was made from far fewer frames than available."""
        return bool(self.failed or self.kept or self.lacking)

    def awaited(self, *, by_science: bool = False) -> tuple[str, ...]:
        """Return the kinds of calibration that were missing, for science only if ``by_science`` is set.

        A flat of the night may lack its darks while an older flat serves the science.
        """
        asked = [one for one in self.failures if one.step == STACK.target or not by_science]
        return tuple(dict.fromkeys(one.waits_for for one in asked if one.waits_for))

    def verdict(self) -> str:
        """Return the outcome in one line: products made, failed, waiting or incomplete, and frames left out."""
        reused = sum(product.reused for product in self.products)
        failed = [f"{one.label}: {one.message}" for one in self.failed]
        waits = [f"{one.label} waits for a {one.waits_for}" for one in self.failures if one.waits_for]
        counts = (
            f"{len(self.products) - reused} made, {reused} reused, {len(failed)} failed, {len(waits)} waiting"
        )
        if self.left_out:
            counts += f", {len(self.left_out)} left out"
        lacking = [self.frames_lost(ref) for ref in self.lacking]
        kept = [f"{one.old} was kept: {one.reason}" for one in self.kept]
        texts = (*failed, *waits, *lacking, *kept)
        return ". ".join([counts, *(one.rstrip(".") for one in texts)]) + "."

    @staticmethod
    def frames_lost(ref: ProductRef) -> str:
        """Describe how many frames of its group a product lacks, and which, by reason."""
        lost = _lost(ref)
        reasons: dict[str, list[str]] = {}
        for name, reason in lost.items():
            reasons.setdefault(reason, []).append(name)
        listed = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in reasons.items())
        return f"{ref.name} lacks {len(lost)} of {_group_size(ref)} frames ({listed})"


def _lost(ref: ProductRef) -> dict[str, str]:
    """Return the frames missing from a product, with the reasons."""
    return {one.name: one.reason for one in ref.left_out if not one.expected}


def _group_size(ref: ProductRef) -> int:
    names: Iterable[str] = (*ref.inputs, *_lost(ref))
    return len(set(names))

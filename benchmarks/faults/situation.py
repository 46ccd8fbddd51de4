"""A situation: what is done to a night or to a machine, what is right, and the verdict on what happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.faults.laboratory import Laboratory
    from benchmarks.faults.outcome import Outcome

Part = Literal["headers", "times", "files", "frames", "machines", "software", "store"]
Standing = Literal["holds", "half", "broken"]


@dataclass(frozen=True)
class Check:
    """One thing that has to be true after a situation.

    Attributes
    ----------
    ok
        Whether it is true.
    evidence
        What was found: a message, or a figure and the one expected.
    grave
        Without it the situation is broken: a result is wrong or missing. Otherwise a failure leaves the
        situation half right: the result is good, but the message, the count or the remedy is missing.
    """

    ok: bool
    evidence: str
    grave: bool = True


@dataclass(frozen=True)
class Verdict:
    """The verdict on a situation, with one line of evidence."""

    standing: Standing
    evidence: str


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """Return the verdict of all checks; the evidence is that of the gravest failure, else of the last check."""
    if not checks:
        return Verdict("broken", "nothing was checked")
    failed = sorted((check for check in checks if not check.ok), key=lambda check: not check.grave)
    if not failed:
        return Verdict("holds", checks[-1].evidence)
    return Verdict("broken" if failed[0].grave else "half", failed[0].evidence)


@dataclass(frozen=True)
class Situation:
    """A situation of the table.

    Attributes
    ----------
    name
        Short name for ``--only``.
    part
        Part of the table.
    given, right
        What is done, and what is right, as a reader needs it.
    trial
        Do everything and return the checks, in the laboratory and a new folder. None for a situation of a
        night.
    disturb
        Change a night's folder before its reduction.
    judge
        Return the checks on the outcome of the reduction.
    options
        Options of ``nirflow reduce``.
    group
        Situations of one group disturb different frames and share a reduction. If one of them does not hold
        there, it is repeated alone.
    root
        It needs the account root: for other accounts, mounts or name spaces.
    """

    name: str
    part: Part
    given: str
    right: str
    trial: Callable[[Laboratory, Path], Sequence[Check]] | None = None
    disturb: Callable[[Path], None] | None = None
    judge: Callable[[Outcome], Sequence[Check]] | None = None
    options: tuple[str, ...] = ()
    group: str = ""
    root: bool = False


@dataclass(frozen=True)
class Row:
    """The result of a situation: its verdict and how long it took."""

    situation: Situation
    verdict: Verdict
    seconds: float = field(compare=False, default=0.0)

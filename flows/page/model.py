"""The content of a night's page as frozen records. Nothing here contains markup: the templates escape every
text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from flows.run.report import Space
from imaging.figures import Figure
from imaging.frames.facts import FrameFacts
from imaging.kinds import STACK, Target, target_of
from tasks.support.references import LeftOut

#: Outcome of a group of the plan.
State = Literal["built", "reused", "failed", "waiting", "not reduced"]


@dataclass(frozen=True)
class NightFrame:
    """A raw frame of the night.

    Attributes
    ----------
    facts
        Its facts.
    sha256
        Its identity.
    paths
        Paths where it was seen.
    problem
        Why it is not used; empty for a usable frame.
    remedy
        What a user can do about it; empty if there is nothing to do.
    added_at
        When the store first had it.
    """

    facts: FrameFacts
    sha256: str
    paths: tuple[Path, ...] = ()
    problem: str = ""
    remedy: str = ""
    added_at: datetime | None = None

    @property
    def name(self) -> str:
        """File name without a compression suffix."""
        return self.facts.name


@dataclass(frozen=True)
class NightProduct:
    """A product that was made from the night's frames or used for them in a run.

    Attributes
    ----------
    id
        Its id in the store.
    kind, name, label, recipe_key, sha256
        As the store and the report have them.
    inputs
        Names of the frames that it was made from.
    sources
        Their sha256, as far as the store knows them.
    calibrations
        Names of the products that it was made with.
    own_steps
        The user's own steps that it was made with: point, function with arguments, package.
    reused
        Whether the last run found it in the store.
    status
        Its status in the store, and objections to it; ``gone`` if the store no longer has it.
    status_reason
        Who set the status and why, if a user or the comparison did.
    figures
        Quality figures.
    warnings, left_out
        Warnings for the user, and the members that could not be used.
    output, preview
        The copy and its PNG in the output folder, as reported by the run; they may no longer exist.
    seconds
        Duration of its last step.
    span
        From the start of the first input to the end of the last, if known to the store.
    made_at
        When it was made.
    metrics, facts
        Its figures and the facts of its first input, as the store has them.
    """

    id: UUID
    kind: str
    name: str
    label: str
    recipe_key: str
    sha256: str
    inputs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    calibrations: tuple[str, ...] = ()
    own_steps: tuple[str, ...] = ()
    reused: bool = False
    status: str = "gone"
    status_reason: str = ""
    figures: tuple[Figure, ...] = ()
    warnings: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    output: Path | None = None
    preview: Path | None = None
    seconds: float | None = None
    span: tuple[datetime, datetime] | None = None
    made_at: datetime | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict, hash=False)
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def number(self, name: str) -> float | None:
        """Return a figure that is a finite number, otherwise None."""
        value = self.metrics.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return None
        return float(value) if math.isfinite(value) else None

    @property
    def group_kind(self) -> Target:
        """The kind of group to which such a product belongs."""
        return target_of(self.kind)


@dataclass(frozen=True)
class NotTaken:
    """A candidate that was not chosen, and why."""

    name: str
    status: str
    reason: str


@dataclass(frozen=True)
class Chosen:
    """Which calibration of a kind the frames of a group got.

    Attributes
    ----------
    kind
        Kind of the calibration.
    name, status
        Name and status of the product; None if none was chosen.
    days
        Days from the middle of the group's middle frame to that of the product; negative if it is earlier.
    why
        The reason given by the rules or the user.
    rules
        Version of the rules.
    others
        The candidates that were not taken.
    now
        The product that would be chosen now, if none was.
    """

    kind: str
    name: str | None
    status: str = ""
    days: float | None = None
    why: str = ""
    rules: str = ""
    others: tuple[NotTaken, ...] = ()
    now: str = ""


@dataclass(frozen=True)
class Group:
    """A group of the plan and its outcome.

    Attributes
    ----------
    kind, label
        Its kind, and the name that an observer would give it.
    frames
        Names of its frames, in order of time.
    elsewhere
        How many of them come from other nights.
    members
        Their sha256: two frames may share a name.
    first
        Sha256 of those that the product may be named after.
    middle
        Sha256 of the frame that calibrations were chosen for; empty for groups that need none.
    needs
        Kinds of calibration that it needs.
    notes
        Notes for the user about the grouping.
    state, why, remedy, waits_for
        Its outcome.
    space
        The room that the run lacked which failed because of a full disk.
    attempted
        Start of the run that failed or lacked a calibration.
    product
        The product made from it.
    chosen
        Its calibrations.
    """

    kind: Target
    label: str
    frames: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    elsewhere: int = 0
    first: tuple[str, ...] = ()
    middle: str = ""
    needs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    state: State = "not reduced"
    why: str = ""
    remedy: str = ""
    waits_for: str = ""
    space: Space | None = None
    attempted: datetime | None = None
    product: NightProduct | None = None
    chosen: tuple[Chosen, ...] = ()


@dataclass(frozen=True)
class RunOutcome:
    """A run of a flow, as one line; ``frames`` and ``stacks`` are those of the night, the other numbers the run's."""

    flow: str
    name: str
    sequence: str
    started: datetime
    seconds: float
    made: int
    reused: int
    failed: int
    waiting: int
    frames: int
    stacks: int
    out: str
    url: str
    steps: tuple[tuple[str, float], ...]
    readable: bool = True


@dataclass(frozen=True)
class NightPage:
    """The content of a night's page except for the pictures. ``others`` are frames of other nights in its
    products.
    """

    night: date
    frames: tuple[NightFrame, ...]
    others: tuple[NightFrame, ...]
    groups: tuple[Group, ...]
    products: tuple[NightProduct, ...]
    earlier: tuple[NightProduct, ...]
    left_out: tuple[LeftOut, ...]
    replaced: tuple[tuple[str, str], ...]
    runs: tuple[RunOutcome, ...]

    @property
    def programs(self) -> tuple[str, ...]:
        """Programs of the night's science frames."""
        return tuple(sorted({f.facts.program for f in self.frames if f.facts.kind == "object"} - {""}))

    @property
    def bands(self) -> tuple[str, ...]:
        """Filters of the night's frames with light."""
        return tuple(sorted({f.facts.filter for f in self.frames if f.facts.kind != "dark"} - {""}))

    def in_state(self, *states: State) -> tuple[Group, ...]:
        """Return the groups in one of these states."""
        return tuple(group for group in self.groups if group.state in states)

    @property
    def stacks(self) -> int:
        """Stacked images."""
        return sum(product.kind == STACK.name for product in self.products)

    @property
    def lost(self) -> tuple[LeftOut, ...]:
        """What was left out unexpectedly."""
        return tuple(one for one in self.left_out if not one.expected)

    @property
    def steps(self) -> tuple[tuple[str, float], ...]:
        """Seconds in each kind of step, summed over all runs, the longest first."""
        sums: dict[str, float] = {}
        for run in self.runs:
            for name, seconds in run.steps:
                sums[name] = sums.get(name, 0.0) + seconds
        return tuple(sorted(sums.items(), key=lambda one: (-one[1], one[0])))

"""What a night's page shows, as frozen records. Nothing here is marked up: the templates escape every text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

from imaging.figures import Figure
from imaging.frames.facts import FrameFacts
from imaging.kinds import Target, target_of
from tasks.support.references import LeftOut

#: What became of a group of the plan.
State = Literal["built", "reused", "failed", "waiting", "not reduced"]


@dataclass(frozen=True)
class NightFrame:
    """A raw frame of the night.

    Attributes
    ----------
    facts
        What it is.
    sha256
        Its identity.
    paths
        Where it was seen.
    problem
        Why it is not used; empty for one that may be.
    """

    facts: FrameFacts
    sha256: str
    paths: tuple[Path, ...] = ()
    problem: str = ""

    @property
    def name(self) -> str:
        """File name without a compression suffix."""
        return self.facts.name


@dataclass(frozen=True)
class NightProduct:
    """A product that was made of the night's frames, or served them in a run.

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
    reused
        The last run found it in the store.
    status
        What the store says of it, and what speaks against it; ``gone`` where the store has it no more.
    said
        Who said so and why, where a person or the gate did.
    figures
        Of quality.
    warnings, left_out
        What a user has to know, and the members that could not be used.
    output, preview
        The copy and its PNG in the output folder, as the run told; they may be gone by now.
    seconds
        What its last step took.
    span
        From the first input's start to the last one's end, where the store has it.
    made_at
        When it was made.
    measured
        Its seeing and sky, for the plots.
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
    reused: bool = False
    status: str = "gone"
    said: str = ""
    figures: tuple[Figure, ...] = ()
    warnings: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    output: Path | None = None
    preview: Path | None = None
    seconds: float | None = None
    span: tuple[datetime, datetime] | None = None
    made_at: datetime | None = None
    seeing: float | None = None
    sky: float | None = None

    @property
    def group_kind(self) -> Target:
        """The kind of group that such a product is of."""
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
        Of the product; None where there is none.
    days
        From the middle of the group's middle frame to that of the product; below 0 where it is earlier.
    why
        The rules' or the user's reason.
    rules
        Version of the rules.
    others
        The candidates that were not taken.
    now
        What would be taken now, where nothing was.
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
    """A group of the plan, and what became of it.

    Attributes
    ----------
    kind, label
        What it is, and what an observer would call it.
    frames
        Names of its frames, in time.
    elsewhere
        How many of them are of other nights.
    members
        Their sha256: two frames may have one name.
    first
        Sha256 of those that the product may be named after.
    middle
        Sha256 of the frame that calibrations were chosen for; empty for groups that need none.
    needs
        Kinds of calibration that it is made with.
    notes
        What a person should know about the grouping.
    state, why, remedy, waits_for
        What became of it.
    product
        What was made of it.
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
    product: NightProduct | None = None
    chosen: tuple[Chosen, ...] = ()


@dataclass(frozen=True)
class RunOutcome:
    """A run of a flow, in a line."""

    flow: str
    name: str
    sequence: str
    started: datetime
    seconds: float
    made: int
    reused: int
    failed: int
    waiting: int
    out: str
    url: str
    steps: tuple[tuple[str, float], ...]
    readable: bool = True


@dataclass(frozen=True)
class NightPage:
    """All that a night's page tells, but the pictures. ``others`` are frames of other nights in its products."""

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
        """The groups that came to one of some states."""
        return tuple(group for group in self.groups if group.state in states)

    @property
    def stacks(self) -> int:
        """Stacked images."""
        return sum(product.kind == "image" for product in self.products)

    @property
    def lost(self) -> tuple[LeftOut, ...]:
        """What was left out and should not have been."""
        return tuple(one for one in self.left_out if not one.expected)

    @property
    def steps(self) -> tuple[tuple[str, float], ...]:
        """Seconds in each kind of step, all runs added up, the longest first."""
        sums: dict[str, float] = {}
        for run in self.runs:
            for name, seconds in run.steps:
                sums[name] = sums.get(name, 0.0) + seconds
        return tuple(sorted(sums.items(), key=lambda one: (-one[1], one[0])))

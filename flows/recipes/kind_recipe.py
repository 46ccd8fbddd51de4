"""What the flows have to know about a kind of product to plan it, make it, make it again and show it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from prefect.futures import PrefectFuture

from flows.recipes.night_plan import Planning
from flows.recipes.submissions import Submissions
from imaging.frames.facts import FrameFacts
from imaging.kinds import KINDS, CalibrationKind, Kind, ProductKind
from tasks.support.references import FrameSet, ProductSet, RawFrame

S = TypeVar("S", bound=ProductSet)


@dataclass(frozen=True)
class Members:
    """The frames that a product in the store was made from.

    Attributes
    ----------
    of
        The usable frames by role, in order; each role but that of skies has one.
    usable
        The usable frames with their roles, in order.
    recorded
        Facts of all its frames with their roles; None if unknown.
    """

    of: Mapping[str, tuple[RawFrame, ...]]
    usable: Sequence[tuple[str, RawFrame]]
    recorded: Sequence[tuple[str, FrameFacts | None]]


class KindRecipe(ABC, Generic[S]):
    """How the flows make the products of one kind, each from a set of frames.

    Attributes
    ----------
    name
        The kind.
    flow_label
        What the flow for this kind alone makes, in the name of its run; default: the kind's plural.
    sets_label
        Name of several sets in messages; default: the kind's plural.
    """

    name: ClassVar[ProductKind]
    flow_label: ClassVar[str] = ""
    sets_label: ClassVar[str] = ""

    @property
    def kind(self) -> Kind:
        """The kind's row in the table."""
        return KINDS[self.name]

    @abstractmethod
    def plan(self, night: Planning) -> Sequence[S]:
        """Return the sets that a night's frames allow, in order of time; note there what is left out.

        Nothing is read: this is a pure function of the frames' facts.
        """

    @abstractmethod
    def again(self, members: Members) -> S:
        """Return the set of a product that is made again."""

    @abstractmethod
    def build(self, one: S, calibrations: Any, run: Submissions) -> PrefectFuture[Any] | None:
        """Submit the steps of a set, record them, and return the last one; None if it cannot run.

        Parameters
        ----------
        one
            The set.
        calibrations
            The task that chooses its calibrations; None if it needs none.
        run
            The tasks of the run.
        """

    @abstractmethod
    def main(self, one: S) -> FrameSet:
        """Return the frames after which the product is named; its calibrations are those for their middle."""

    def frames(self, one: S) -> Sequence[RawFrame]:
        """Return all frames of a set."""
        return self.main(one).frames

    def first(self, one: S) -> Sequence[RawFrame]:
        """Return the frames, any of which may be the first of the product."""
        return self.main(one).frames

    def needs(self, one: S) -> tuple[CalibrationKind, ...]:
        """Return the kinds of calibration that a set needs."""
        return self.kind.made_with()

    def uses(self, one: S, run: Submissions) -> tuple[CalibrationKind, ...]:
        """Return the optional kinds of calibration that a set takes if one serves."""
        return self.kind.uses

    def notes(self, one: S) -> tuple[str, ...]:
        """Return notes for the user about the set."""
        return ()

    def steps(self, one: S) -> int:
        """Return how many steps a set takes if nothing can be reused."""
        return 1

    def dated_by(self, one: S) -> Sequence[RawFrame]:
        """Return the frames whose nights have the run in their records."""
        return self.frames(one)

    @property
    def of_flow(self) -> str:
        """What the flow for this kind alone makes."""
        return self.flow_label or self.kind.plural

    @property
    def of_sets(self) -> str:
        """Name of several sets."""
        return self.sets_label or self.kind.plural

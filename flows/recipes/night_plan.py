"""The sets of frames that a run combines, and what the planning of a kind may ask about the night."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from imaging.frames.alike import are_alike
from imaging.frames.calibration_groups import CalibrationGroup, FlatGroups, calibration_groups, flat_groups
from imaging.frames.facts import FrameFacts
from imaging.kinds import CalibrationKind, ProductKind, Target
from tasks.support.parameters import ReductionParameters
from tasks.support.references import FrameSet, LeftOut, RawFrame


@dataclass(frozen=True)
class NightPlan:
    """The products that a night's frames allow.

    Attributes
    ----------
    sets
        The sets of each kind of product, in order of time; kinds without a set are missing.
    left_out
        Groups that are too small or incomplete, with the reason.
    """

    sets: Mapping[ProductKind, tuple[Any, ...]] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()

    def of(self, kind: ProductKind) -> tuple[Any, ...]:
        """Return the sets of a kind of product."""
        return self.sets.get(kind, ())

    @property
    def empty(self) -> bool:
        """Whether nothing can be made."""
        return not self.sets


@dataclass
class Planning:
    """A night that is being planned: its frames, what is wanted, and the sets planned so far.

    A kind is planned after all kinds that are made with it, so that it is known what needs it.

    Attributes
    ----------
    frames
        The frames of the survey.
    parameters
        Parameters of the groups and minimum numbers of frames of the steps.
    wanted
        The wanted kinds and all kinds that they are made with.
    bands
        Filters to reduce; all if empty.
    only
        Kinds of product that the user asked for; all if empty.
    across_nights
        Combine science frames of several nights.
    join
        Combine adjacent science groups of one pointing.
    planned
        The sets of the kinds planned so far.
    needing
        First frame of every planned set, by the kinds of calibration that it needs.
    left_out
        What cannot be made, with the reason.
    """

    frames: Sequence[RawFrame]
    parameters: ReductionParameters
    wanted: Collection[Target]
    bands: Collection[str] = ()
    only: Collection[Target] = ()
    across_nights: bool = False
    join: bool = False
    planned: dict[ProductKind, Sequence[Any]] = field(default_factory=dict)
    needing: dict[CalibrationKind, list[FrameFacts]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    @cached_property
    def by_name(self) -> Mapping[str, RawFrame]:
        """The frames by name."""
        return {frame.name: frame for frame in self.frames}

    @cached_property
    def in_band(self) -> Sequence[RawFrame]:
        """The frames of the bands to reduce, and all darks."""
        return [
            f for f in self.frames if not self.bands or f.facts.kind == "dark" or f.facts.filter in self.bands
        ]

    @cached_property
    def groups(self) -> Sequence[CalibrationGroup]:
        """The groups of raw darks and lamp flats, of all bands."""
        return calibration_groups([f.facts for f in self.frames], self.parameters.groups)

    @cached_property
    def darks(self) -> Sequence[CalibrationGroup]:
        """The groups of raw darks."""
        return [group for group in self.groups if group.kind == "dark"]

    @cached_property
    def pairs(self) -> Sequence[FlatGroups]:
        """The groups of lamp flats with those that are subtracted from them, of all bands."""
        return flat_groups(self.groups, self.parameters.groups)

    def as_set(self, group: CalibrationGroup, what: str) -> FrameSet:
        """Return the frames of a group under a label: what they are, and their night."""
        night = self.by_name[group.members[0]].facts.night
        return FrameSet(label=f"{what} {night}", frames=tuple(self.by_name[name] for name in group.members))

    def asks_for(self, group: CalibrationGroup, kind: CalibrationKind) -> bool:
        """Return whether a set of the night needs a product that this group of frames would make."""
        return any(are_alike(f, group.facts, f.table.combined(kind)) for f in self.needing.get(kind, ()))

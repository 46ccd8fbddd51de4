"""Which science frames belong together: the fields of a night, and the parameters of all groups.

Pure functions of the facts of frames; nothing is read here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from imaging.frames.alike import Nominal
from imaging.frames.facts import FrameFacts
from imaging.frames.pointing import Position, mean_position, pointing, separation
from imaging.instruments import catalogue
from imaging.instruments.instrument import Instrument
from imaging.kinds import ProductKind
from imaging.parameters import StepParameters, parameter

#: Tolerance of a pointing, arcsec: an offset of 300 arcsec may appear a little smaller.
_POINTING_ERROR: Final = 2.0


GroupWindow = Literal["gap", "group", "pair"]


class GroupParameters(StepParameters):
    """How frames are put into groups."""

    field_fraction: float = parameter(
        0.9, "frames whose centres are within this fraction of the field's diameter belong to one field",
        unit="field diameters", gt=0, le=1,
    )  # fmt: skip
    sky_offset: float = parameter(
        300.0,
        "centres this far apart are different fields even if their edges overlap",
        unit="arcsec",
        gt=0,
    )
    max_gap_days: float | None = parameter(
        None, "a group of raw frames ends at a longer gap than this; default: that of the instrument",
        unit="days", gt=0,
    )  # fmt: skip
    max_span_days: float | None = parameter(
        None, "darks or flats that span more than this are several groups; default: that of the instrument",
        unit="days", gt=0,
    )  # fmt: skip
    pair_within_days: float | None = parameter(
        None,
        "lamp-on, lamp-off and dark groups further apart than this are not paired; default: that of the instrument",
        unit="days",
        gt=0,
    )
    longest_short_dark: float = parameter(
        3.0, "darks up to this exposure time are short darks, for the bad pixel mask", unit="s", gt=0
    )

    def days(self, window: GroupWindow, kind: ProductKind, table: Instrument) -> float:
        """Return a time window: as given, or that of the instrument for frames of a kind."""
        given = self._given(window)
        return table.windows[kind].days(window) if given is None else given

    def longest(self, window: GroupWindow) -> float:
        """Return the longest value of a window for calibration frames of any instrument."""
        given = self._given(window)
        return catalogue.longest(window) if given is None else given

    def reach(self, facts: FrameFacts) -> float:
        """Return the largest distance of two centres of one field for frames like this one, arcsec."""
        diameter = facts.table.detector.number("field_diameter", facts.values)
        return min(self.field_fraction * diameter, self.sky_offset - _POINTING_ERROR)

    def _given(self, window: GroupWindow) -> float | None:
        given = {"gap": self.max_gap_days, "group": self.max_span_days, "pair": self.pair_within_days}
        return given[window]


def shared(facts: FrameFacts, kind: ProductKind) -> dict[str, Any]:
    """Return the facts of a raw frame that all frames of a product of a kind must share.

    The table of the instrument defines them. Two frames are combined only if these and the instrument are the
    same."""
    return {name: getattr(facts, name) for name in facts.table.combined(kind)}


class ScienceGroup(BaseModel):
    """Science frames of one field and configuration, and their sky frames."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="root of the first object frame")
    mode: Literal["dither", "offset"] = Field(description="sky from the other dithers, or from a blank field")
    exposure_time: float = Field(description="s")
    filter: str
    program: str
    observation_id: str
    target: str
    centre: Position | None = Field(description="mean pointing of the object frames, deg")
    objects: tuple[str, ...] = Field(description="frames to be reduced and stacked, in order of time")
    skies: tuple[str, ...] = Field(
        description="frames that may serve as sky, in order of time; in a dither also objects"
    )
    notes: tuple[str, ...] = Field(default=(), description="what the user should know about this choice")

    @property
    def members(self) -> tuple[str, ...]:
        """Every frame of the group, once: objects, then the frames that are sky only."""
        return self.objects + tuple(name for name in self.skies if name not in self.objects)


def science_groups(
    frames: Iterable[FrameFacts],
    parameters: GroupParameters | None = None,
    *,
    centres: Mapping[str, Position] | None = None,
    across_nights: bool = False,
    join: bool = False,
) -> list[ScienceGroup]:
    """Group science frames by configuration, observation, night and field.

    Parameters
    ----------
    frames
        Facts of any frames; those that are not usable object frames (`FrameFacts.unfit`) are ignored.
    parameters
        See `GroupParameters`.
    centres
        Name to the field centre that a frame's WCS gives, degrees. Other frames point according to the target
        and the telescope's offsets.
    across_nights
        Combine the frames of several nights. A group then ends at a gap of more than ``max_gap_days``.
    join
        Combine adjacent groups of one pointing although their observation ids or targets differ; otherwise a note
        with such groups names the other.

    Returns
    -------
    list of ScienceGroup
        In order of time. In a dither on target, every guided frame is object and sky. If an observation
        visits more than one field of the same target, the field nearest the target contains the objects and
        the other frames are their skies. Unguided frames of a guided observation are sky only.
    """
    parameters, centres = parameters or GroupParameters(), centres or {}
    observations: dict[tuple[Any, ...], list[FrameFacts]] = defaultdict(list)
    frames = sorted(frames, key=in_time)
    nominal = Nominal(frames)
    for facts in frames:
        if facts.kind == "object" and facts.unfit() is None and not facts.processed:
            night = None if across_nights else facts.night
            same = nominal.of(facts, facts.table.combined("image"))
            key = facts.instrument, same, facts.program, facts.observation_id, night
            observations[key].append(facts)
    groups = []
    for members in observations.values():
        for sequence in without_gaps(members, "image", parameters):
            groups += _fields_of_observation(sequence, parameters, centres)
    facts_of = {facts.name: facts for members in observations.values() for facts in members}
    started = {name: facts.started for name, facts in facts_of.items()}
    groups.sort(key=lambda g: (started[g.objects[0]], g.name))
    return _joined(groups, facts_of, nominal, parameters, across_nights=across_nights, join=join)


def _joined(
    groups: Sequence[ScienceGroup],
    facts: Mapping[str, FrameFacts],
    nominal: Nominal,
    parameters: GroupParameters,
    *,
    across_nights: bool,
    join: bool,
) -> list[ScienceGroup]:
    """Join adjacent groups of one pointing, or add a note to both of each such pair.

    Groups, given in order of time, are adjacent if no other group of their configuration is between them. Both
    must be dithers: the sky frames of an offset sequence belong to their own objects.
    """
    found: list[ScienceGroup] = []
    last: dict[tuple[Any, ...], int] = {}
    for group in groups:
        first = facts[group.objects[0]]
        night = None if across_nights else first.night
        configuration = first.instrument, nominal.of(first, first.table.combined("image")), night
        before = last.get(configuration)
        if before is None or not _one_pointing(found[before], group, parameters.reach(first)):
            last[configuration] = len(found)
            found.append(group)
            continue
        earlier = found[before]
        if join:
            found[before] = _both(earlier, group, facts)
            continue
        found[before] = _noted(earlier, f"{group.name} continues this pointing as {_called(group, earlier)}")
        last[configuration] = len(found)
        found.append(_noted(group, f"{earlier.name} has the same pointing as {_called(earlier, group)}"))
    return found


def _one_pointing(a: ScienceGroup, b: ScienceGroup, reach: float) -> bool:
    if a.mode != "dither" or b.mode != "dither" or a.centre is None or b.centre is None:
        return False
    return separation(a.centre, b.centre) < reach


def _called(group: ScienceGroup, other: ScienceGroup) -> str:
    """Return what distinguishes a group from another one of the same pointing."""
    parts = [
        f"{label} {mine!r}"
        for label, mine, its in (
            ("program", group.program, other.program),
            ("observation", group.observation_id, other.observation_id),
            ("target", group.target, other.target),
        )
        if mine != its
    ]
    return ", ".join(parts) or "another sequence"


def _noted(group: ScienceGroup, note: str) -> ScienceGroup:
    return group.model_copy(update={"notes": (*group.notes, f"{note}; to stack both together, use --join")})


def _both(a: ScienceGroup, b: ScienceGroup, facts: Mapping[str, FrameFacts]) -> ScienceGroup:
    """Return one group of the frames of two."""

    def in_order(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(facts_.name for facts_ in sorted((facts[name] for name in names), key=in_time))

    objects = in_order((*a.objects, *b.objects))
    note = f"joined with {b.name}, {_called(b, a)}"
    return a.model_copy(
        update={
            "objects": objects,
            "skies": in_order((*a.skies, *b.skies)),
            "centre": mean_position([pointing(facts[name]) for name in objects]),
            "notes": (*a.notes, *(one for one in b.notes if one not in a.notes), note),
        }
    )


def without_gaps(
    members: Sequence[FrameFacts], kind: ProductKind, parameters: GroupParameters
) -> Iterable[list[FrameFacts]]:
    """Split frames, in order of time, at gaps of more than ``max_gap_days``."""
    run: list[FrameFacts] = []
    gap = timedelta(days=parameters.days("gap", kind, members[0].table))
    for facts in members:
        if run and facts.started - run[-1].started > gap:
            yield run
            run = []
        run.append(facts)
    yield run


def in_time(facts: FrameFacts) -> tuple[datetime, str]:
    """Return the key that sorts frames by time."""
    return facts.started, facts.name


def _fields_of_observation(
    members: list[FrameFacts], parameters: GroupParameters, centres: Mapping[str, Position]
) -> list[ScienceGroup]:
    """Return the groups of frames of one configuration and observation."""
    reach = parameters.reach(members[0])
    where = {facts.name: pointing(facts, centres.get(facts.name)) for facts in members}

    def one_target(a: FrameFacts, b: FrameFacts) -> bool:
        if a.ra is None or a.dec is None or b.ra is None or b.dec is None:
            return a.target == b.target
        return separation((a.ra, a.dec), (b.ra, b.dec)) < reach

    def one_field(a: FrameFacts, b: FrameFacts) -> bool:
        here, there = where[a.name], where[b.name]
        if here is None or there is None:
            return math.hypot(a.poffset - b.poffset, a.qoffset - b.qoffset) < reach
        return separation(here, there) < reach

    groups = []
    for targeted in _connected(members, one_target):
        guided = [f for f in targeted if f.guided]
        notes = []
        if guided and len(guided) < len(targeted):
            notes.append(f"{len(targeted) - len(guided)} unguided frames are sky only")
        fields = _connected(guided or targeted, one_field)
        fields.sort(key=lambda field: (_from_target(field, where), in_time(field[0])))
        objects = fields[0]
        if len(fields) > 1:
            skies = [f for f in targeted if f not in objects]
            notes.append(f"{len(fields) - 1} fields away from the target are sky")
        else:
            skies = targeted
        groups.append(_science_group(objects, skies, where, notes, offset=len(fields) > 1))
    return groups


def _science_group(
    objects: list[FrameFacts],
    skies: list[FrameFacts],
    where: Mapping[str, Position | None],
    notes: list[str],
    *,
    offset: bool,
) -> ScienceGroup:
    first = objects[0]
    return ScienceGroup(
        name=first.root,
        mode="offset" if offset else "dither",
        exposure_time=first.exposure_time,
        filter=first.filter,
        program=first.program,
        observation_id=first.observation_id,
        target=first.target,
        centre=mean_position([where[f.name] for f in objects]),
        objects=tuple(f.name for f in objects),
        skies=tuple(f.name for f in skies),
        notes=tuple(notes),
    )


def _from_target(field: Sequence[FrameFacts], where: Mapping[str, Position | None]) -> float:
    """Return the mean distance of a field's frames from their target, arcsec."""
    distances = []
    for facts in field:
        here = where[facts.name]
        if here is None or facts.ra is None or facts.dec is None:
            distances.append(math.hypot(facts.poffset, facts.qoffset))
        else:
            distances.append(separation(here, (facts.ra, facts.dec)))
    return math.fsum(distances) / len(distances)


def _connected(
    frames: Sequence[FrameFacts], near: Callable[[FrameFacts, FrameFacts], bool]
) -> list[list[FrameFacts]]:
    """Return the sets of frames that are joined by chains of near neighbours, in the order of the frames."""
    left, sets = list(frames), []
    while left:
        joined, edge = [left[0]], [left.pop(0)]
        while edge:
            at = edge.pop()
            found = [f for f in left if near(at, f)]
            left = [f for f in left if f not in found]
            joined += found
            edge += found
        sets.append(sorted(joined, key=in_time))
    return sets

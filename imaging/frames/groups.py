"""Which raw frames belong together: fields of science frames, and groups of calibration frames.

Pure functions over the facts of frames; nothing is read here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from imaging.frames.facts import FrameFacts, Lamp
from imaging.frames.pointing import Position, mean_position, pointing, separation
from imaging.instruments import f2
from imaging.kinds import CALIBRATION_FRAMES, CalibrationFrame
from imaging.parameters import StepParameters, parameter

#: Diameter of the circle of light on the sky that is fully lit, arcsec.
FIELD_DIAMETER: Final = 362.0
#: How far a pointing may be off, arcsec: an offset of 300 arcsec may look a little less.
_POINTING_ERROR: Final = 2.0


class GroupParameters(StepParameters):
    """How frames are put into groups."""

    field_fraction: float = parameter(
        0.9, "frames whose centres are within this fraction of the field's diameter are of one field",
        unit="field diameters", gt=0, le=1,
    )  # fmt: skip
    sky_offset: float = parameter(
        300.0,
        "centres this far apart are different fields even where their edges overlap",
        unit="arcsec",
        gt=0,
    )
    max_gap_days: float = parameter(
        5.0, "a group of raw frames ends where none was taken for longer than this", unit="days", gt=0
    )
    max_span_days: float = parameter(
        30.0, "darks or flats over a longer time than this are several groups", unit="days", gt=0
    )
    pair_within_days: float = parameter(
        90.0, "lamp-on, lamp-off and dark groups further apart than this are no pair", unit="days", gt=0
    )
    longest_short_dark: float = parameter(
        3.0, "darks up to this exposure time are short darks, for the bad pixel mask", unit="s", gt=0
    )


class Configuration(BaseModel):
    """What has to be the same for science frames to be combined."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filter_id: str
    lyot: str
    focal_mask: str
    exposure_time: float = Field(description="s")
    coadds: int
    read_pairs: int
    detector: str
    section: str
    binning: str

    @classmethod
    def of(cls, facts: FrameFacts) -> Configuration:
        """The configuration of a frame."""
        return cls(**{name: getattr(facts, name) for name in cls.model_fields})


class ScienceGroup(BaseModel):
    """Science frames of one field and configuration, and the frames that show their sky."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="root of the first object frame")
    mode: Literal["dither", "offset"] = Field(description="sky from the other dithers, or from a blank field")
    configuration: Configuration
    filter: str
    program: str
    observation_id: str
    target: str
    centre: Position | None = Field(description="mean pointing of the object frames, deg")
    objects: tuple[str, ...] = Field(description="frames to be reduced and stacked, in time")
    skies: tuple[str, ...] = Field(
        description="frames that may serve as sky, in time; in a dither also objects"
    )
    notes: tuple[str, ...] = Field(default=(), description="what a person should know about this choice")

    @property
    def members(self) -> tuple[str, ...]:
        """Every frame of the group, each once: objects, then the frames that are sky only."""
        return self.objects + tuple(name for name in self.skies if name not in self.objects)


class CalibrationGroup(BaseModel):
    """Raw darks or flats of one configuration that are combined as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: CalibrationFrame
    lamp: Lamp | None = None
    exposure_time: float = Field(description="s")
    coadds: int
    read_pairs: int
    detector: str
    section: str
    binning: str
    filter_id: str = ""
    filter: str = ""
    lyot: str = ""
    focal_mask: str = ""
    disperser: str = ""
    members: tuple[str, ...] = Field(description="names of the frames, in time")
    first: datetime = Field(description="start of the first frame")
    last: datetime = Field(description="start of the last frame")

    @property
    def middle(self) -> datetime:
        """Middle of the group in time."""
        return self.first + (self.last - self.first) / 2

    def days_from(self, other: CalibrationGroup) -> float:
        """Days between two groups: 0 where they overlap."""
        gap = max(self.first, other.first) - min(self.last, other.last)
        return max(gap, timedelta(0)) / timedelta(days=1)


class FlatGroups(BaseModel):
    """The raw groups that make one flat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filter_id: str
    on: CalibrationGroup | None = Field(description="lamp on; None in the K bands")
    off: CalibrationGroup | None = Field(description="lamp off")
    darks: CalibrationGroup | None = Field(default=None, description="K bands: darks like the lamp-offs")
    missing: tuple[str, ...] = Field(default=(), description="what was looked for in vain")


def science_groups(
    frames: Iterable[FrameFacts],
    parameters: GroupParameters | None = None,
    *,
    centres: Mapping[str, Position] | None = None,
    across_nights: bool = False,
) -> list[ScienceGroup]:
    """Group science frames by configuration, observation, night and field.

    Parameters
    ----------
    frames
        Facts of any frames; those that are no fit object frames (`FrameFacts.unfit`) are passed over.
    parameters
        See `GroupParameters`.
    centres
        Name to the field centre that a frame's WCS gives, degrees. A frame that is not in it, or all without
        it, point where the target and the telescope's offsets say.
    across_nights
        Combine the frames of several nights. A group then ends where none was taken for longer than
        ``max_gap_days``.

    Returns
    -------
    list of ScienceGroup
        In time. A dither on target: every guided frame is object and sky. Where an observation visits more
        than one field of the same target, the field nearest the target holds the objects and the other
        frames are their skies. Frames that were not guided, in an observation that was, are sky only.
    """
    parameters, centres = parameters or GroupParameters(), centres or {}
    observations: dict[tuple[Any, ...], list[FrameFacts]] = defaultdict(list)
    for facts in sorted(frames, key=_in_time):
        if facts.kind == "object" and facts.unfit() is None and not facts.processed:
            night = None if across_nights else facts.night
            observations[Configuration.of(facts), facts.program, facts.observation_id, night].append(facts)
    groups = []
    for members in observations.values():
        for sequence in _without_gaps(members, parameters):
            groups += _fields_of_observation(sequence, parameters, centres)
    started = {facts.name: facts.started for members in observations.values() for facts in members}
    return sorted(groups, key=lambda g: (started[g.objects[0]], g.name))


def _without_gaps(members: Sequence[FrameFacts], parameters: GroupParameters) -> Iterable[list[FrameFacts]]:
    """Frames in time, cut where none was taken for longer than ``max_gap_days``."""
    run: list[FrameFacts] = []
    for facts in members:
        if run and facts.started - run[-1].started > timedelta(days=parameters.max_gap_days):
            yield run
            run = []
        run.append(facts)
    yield run


def _in_time(facts: FrameFacts) -> tuple[datetime, str]:
    return facts.started, facts.name


def _fields_of_observation(
    members: list[FrameFacts], parameters: GroupParameters, centres: Mapping[str, Position]
) -> list[ScienceGroup]:
    """The groups of frames of one configuration and observation."""
    reach = min(parameters.field_fraction * FIELD_DIAMETER, parameters.sky_offset - _POINTING_ERROR)
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
        fields.sort(key=lambda field: (_from_target(field, where), _in_time(field[0])))
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
        configuration=Configuration.of(first),
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
    """Mean distance of a field's frames from their target, arcsec."""
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
    """Sets of frames that a chain of near neighbours joins; the order of the frames is kept."""
    left, sets = list(frames), []
    while left:
        joined, edge = [left[0]], [left.pop(0)]
        while edge:
            at = edge.pop()
            found = [f for f in left if near(at, f)]
            left = [f for f in left if f not in found]
            joined += found
            edge += found
        sets.append(sorted(joined, key=_in_time))
    return sets


_COMMON: Final = ("exposure_time", "coadds", "read_pairs", "detector", "section", "binning")
_FLAT: Final = ("filter_id", "filter", "lyot", "focal_mask", "disperser")


def calibration_groups(
    frames: Iterable[FrameFacts], parameters: GroupParameters | None = None
) -> list[CalibrationGroup]:
    """Group raw darks and flats; a group is combined as a whole.

    Darks of one exposure time, coadds, read pairs, detector and section; flats also of one filter, Lyot stop,
    focal-plane mask and disperser, lamp on and lamp off apart. A group ends at a gap of more than
    ``max_gap_days``, and where it would span more than ``max_span_days``; lamp-offs of a K band, whose pattern
    drifts, also at the end of the night.

    Returns
    -------
    list of CalibrationGroup
        In the order of kind and time. Frames that are no fit raw darks or flats are passed over.
    """
    parameters = parameters or GroupParameters()
    groups = [
        group
        for chain in calibration_chains(frames, parameters)
        for group in groups_of_chain(chain, parameters)
    ]
    return sorted(groups, key=lambda g: (g.kind, g.first, g.members))


def calibration_chains(
    frames: Iterable[FrameFacts], parameters: GroupParameters
) -> Iterable[list[FrameFacts]]:
    """Raw darks and flats of one configuration, in time, without a gap: what `groups_of_chain` divides."""
    sets: dict[tuple[Any, ...], list[FrameFacts]] = defaultdict(list)
    for facts in sorted(frames, key=_in_time):
        if facts.kind not in CALIBRATION_FRAMES or facts.processed or facts.unfit() is not None:
            continue
        key: tuple[Any, ...] = (facts.kind, facts.lamp, *(getattr(facts, name) for name in _COMMON))
        if facts.kind == "flat":
            key += tuple(getattr(facts, name) for name in _FLAT)
            if facts.filter in f2.THERMAL_BANDS:
                key += (facts.night,)
        sets[key].append(facts)
    for members in sets.values():
        yield from _without_gaps(members, parameters)


def groups_of_chain(chain: Sequence[FrameFacts], parameters: GroupParameters) -> Iterable[CalibrationGroup]:
    """The groups of a chain: each from its first frame on as long as ``max_span_days`` allows."""
    group: list[FrameFacts] = []
    for facts in chain:
        if group and facts.started - group[0].started > timedelta(days=parameters.max_span_days):
            yield _calibration_group(group)
            group = []
        group.append(facts)
    yield _calibration_group(group)


def _calibration_group(members: Sequence[FrameFacts]) -> CalibrationGroup:
    facts = members[0]
    names = _COMMON + (_FLAT if facts.kind == "flat" else ())
    return CalibrationGroup(
        kind="flat" if facts.kind == "flat" else "dark",
        lamp=facts.lamp,
        members=tuple(f.name for f in members),
        first=facts.started,
        last=members[-1].started,
        **{name: getattr(facts, name) for name in names},
    )


def nearest_group(
    of: CalibrationGroup,
    candidates: Iterable[CalibrationGroup],
    parameters: GroupParameters | None = None,
    *,
    same: Sequence[str] = (),
) -> CalibrationGroup | None:
    """The candidate nearest in time, within ``pair_within_days``, that agrees with ``of`` in ``same``."""
    limit = (parameters or GroupParameters()).pair_within_days
    near = (c for c in candidates if c.days_from(of) <= limit)
    fit = (c for c in near if all(getattr(c, name) == getattr(of, name) for name in same))
    return min(fit, key=lambda c: (c.days_from(of), c.first, c.members), default=None)


def flat_groups(
    groups: Sequence[CalibrationGroup], parameters: GroupParameters | None = None
) -> list[FlatGroups]:
    """Pair the groups that make flats: lamp on with lamp off; in the K bands lamp off with darks."""
    offs = [g for g in groups if g.kind == "flat" and g.lamp == "off"]
    darks = [g for g in groups if g.kind == "dark"]
    flats = []
    for group in groups:
        if group.kind != "flat":
            continue
        if group.filter in f2.THERMAL_BANDS:
            if group.lamp == "off":
                dark = nearest_group(group, darks, parameters, same=_COMMON)
                missing = () if dark else (f"darks of {group.exposure_time:g} s for the lamp-offs",)
                flats.append(
                    FlatGroups(filter_id=group.filter_id, on=None, off=group, darks=dark, missing=missing)
                )
        elif group.lamp == "on":
            off = nearest_group(group, offs, parameters, same=(*_COMMON, *_FLAT))
            missing = () if off else (f"lamp-offs of {group.exposure_time:g} s in {group.filter_id}",)
            flats.append(FlatGroups(filter_id=group.filter_id, on=group, off=off, missing=missing))
    return flats

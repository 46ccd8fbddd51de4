"""Which raw calibration frames belong together: groups of darks and flats, and the pairs that make flats.

Pure functions of the facts of frames; nothing is read here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from imaging.frames.alike import Nominal, are_alike
from imaging.frames.facts import FrameFacts, Lamp
from imaging.frames.groups import GroupParameters, in_time, without_gaps
from imaging.kinds import CALIBRATION_FRAMES, CalibrationFrame, ProductKind

#: Facts that determine which pixels a frame has: two frames can be subtracted only if these are the same.
PIXELS: Final = ("detector", "section", "binning")


class CalibrationGroup(BaseModel):
    """Raw darks or flats of one configuration that are combined together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: CalibrationFrame
    lamp: Lamp | None = None
    facts: FrameFacts = Field(description="of the first frame; the others share those that the kind requires")
    members: tuple[str, ...] = Field(description="names of the frames, in order of time")
    first: datetime = Field(description="start of the first frame")
    last: datetime = Field(description="start of the last frame")

    @property
    def exposure_time(self) -> float:
        """Exposure of one coadd, s."""
        return self.facts.exposure_time

    @property
    def coadds(self) -> int:
        """Coadds of each frame."""
        return self.facts.coadds

    @property
    def read_pairs(self) -> int:
        """Read pairs of each frame."""
        return self.facts.read_pairs

    @property
    def filter(self) -> str:
        """The band of flats; empty for darks, which receive no light."""
        return self.facts.filter if self.kind == "flat" else ""

    @property
    def filter_id(self) -> str:
        """The band with the component id."""
        return self.facts.filter_id if self.kind == "flat" else ""

    @property
    def thermal(self) -> bool:
        """Whether the heat of the calibration unit is the lamp of these flats."""
        return self.filter in self.facts.table.thermal_bands

    def agrees(self, other: CalibrationGroup, names: Sequence[str]) -> bool:
        """Return whether some facts of two groups of one instrument are the same."""
        return are_alike(self.facts, other.facts, names)

    @property
    def middle(self) -> datetime:
        """Middle of the group in time."""
        return self.first + (self.last - self.first) / 2

    def days_from(self, other: CalibrationGroup) -> float:
        """Return the days between two groups: 0 where they overlap."""
        gap = max(self.first, other.first) - min(self.last, other.last)
        return max(gap, timedelta(0)) / timedelta(days=1)


class FlatGroups(BaseModel):
    """The raw groups that make one flat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filter_id: str
    on: CalibrationGroup | None = Field(description="lamp on; None in thermal bands")
    off: CalibrationGroup | None = Field(description="lamp off")
    darks: CalibrationGroup | None = Field(
        default=None, description="thermal bands: darks like the lamp-offs"
    )
    missing: tuple[str, ...] = Field(default=(), description="what was searched for and not found")


def calibration_groups(
    frames: Iterable[FrameFacts], parameters: GroupParameters | None = None
) -> list[CalibrationGroup]:
    """Group raw darks and flats; the frames of a group are combined together.

    The frames of a group share the facts that the instrument's table names for darks; flats also those for
    flats, with lamp on and lamp off separated. A group ends at a gap of more than ``max_gap_days``, and where
    it would span more than ``max_span_days``; lamp-offs of a thermal band, whose pattern drifts, also at the
    end of the night.

    Returns
    -------
    list of CalibrationGroup
        In the order of kind and time. Frames that are not usable raw darks or flats are ignored.
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
    """Return the raw darks and flats of each configuration, by time and without gaps, for `groups_of_chain`."""
    sets: dict[tuple[Any, ...], list[FrameFacts]] = defaultdict(list)
    frames = sorted(frames, key=in_time)
    nominal = Nominal(frames)
    for facts in frames:
        if facts.kind not in CALIBRATION_FRAMES or facts.processed or facts.unfit() is not None:
            continue
        kind: ProductKind = "flat" if facts.kind == "flat" else "dark"
        drifts = kind == "flat" and facts.filter in facts.table.thermal_bands
        same = nominal.of(facts, facts.table.combined(kind))
        key = (facts.kind, facts.lamp, facts.instrument, same, facts.night if drifts else None)
        sets[key].append(facts)
    for members in sets.values():
        yield from without_gaps(members, "flat" if members[0].kind == "flat" else "dark", parameters)


def groups_of_chain(chain: Sequence[FrameFacts], parameters: GroupParameters) -> Iterable[CalibrationGroup]:
    """Return the groups of a chain: each spans at most ``max_span_days`` from its first frame."""
    group: list[FrameFacts] = []
    kind: ProductKind = "flat" if chain[0].kind == "flat" else "dark"
    span = timedelta(days=parameters.days("group", kind, chain[0].table))
    for facts in chain:
        if group and facts.started - group[0].started > span:
            yield _calibration_group(group)
            group = []
        group.append(facts)
    yield _calibration_group(group)


def _calibration_group(members: Sequence[FrameFacts]) -> CalibrationGroup:
    facts = members[0]
    return CalibrationGroup(
        kind="flat" if facts.kind == "flat" else "dark",
        lamp=facts.lamp,
        facts=facts,
        members=tuple(f.name for f in members),
        first=facts.started,
        last=members[-1].started,
    )


def nearest_group(
    of: CalibrationGroup,
    candidates: Iterable[CalibrationGroup],
    parameters: GroupParameters | None = None,
    *,
    same: Sequence[str] = (),
    kind: ProductKind = "flat",
) -> CalibrationGroup | None:
    """Return the candidate nearest in time, within the window for pairs, that agrees with ``of`` in ``same``."""
    limit = (parameters or GroupParameters()).days("pair", kind, of.facts.table)
    fit = [c for c in candidates if c.days_from(of) <= limit and c.agrees(of, same)]
    return min(fit, key=lambda c: (c.days_from(of), c.first, c.members), default=None)


def flat_groups(
    groups: Sequence[CalibrationGroup], parameters: GroupParameters | None = None
) -> list[FlatGroups]:
    """Pair the groups that make flats: lamp on with lamp off; in thermal bands lamp off with darks."""
    offs = [g for g in groups if g.kind == "flat" and g.lamp == "off"]
    darks = [g for g in groups if g.kind == "dark"]
    flats = []
    for group in groups:
        if group.kind != "flat":
            continue
        table = group.facts.table
        if group.thermal:
            if group.lamp == "off":
                dark = nearest_group(group, darks, parameters, same=table.combined("dark"))
                missing = () if dark else (f"darks of {group.exposure_time:g} s for the lamp-offs",)
                flats.append(
                    FlatGroups(filter_id=group.filter_id, on=None, off=group, darks=dark, missing=missing)
                )
        elif group.lamp == "on":
            off = nearest_group(group, offs, parameters, same=table.combined("flat"))
            missing = () if off else (f"lamp-offs of {group.exposure_time:g} s in {group.filter_id}",)
            flats.append(FlatGroups(filter_id=group.filter_id, on=group, off=off, missing=missing))
    return flats

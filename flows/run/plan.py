"""The plan of a night: the sets of frames to combine, and what they need.

Pure functions of the frames' facts. Nothing is read here, and nothing is decided that the rules of
association decide: the store chooses which product serves which frame.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final

from imaging.frames.calibration_groups import (
    PIXELS,
    CalibrationGroup,
    FlatGroups,
    calibration_groups,
    flat_groups,
    nearest_group,
)
from imaging.frames.facts import FrameFacts
from imaging.frames.groups import GroupParameters, science_groups, shared
from imaging.kinds import TARGETS, Target, kind_of_target, target_of
from tasks.support.parameters import ReductionParameters
from tasks.support.references import BpmSet, FlatSet, FrameSet, LeftOut, RawFrame, Reference, ScienceSet

#: Name in the list of what is left out if no mask can be made.
NO_MASK: Final = "bad pixel mask"


class NightPlan(Reference):
    """The products that a night's frames allow, by kind."""

    darks: tuple[FrameSet, ...] = ()
    bpms: tuple[BpmSet, ...] = ()
    flats: tuple[FlatSet, ...] = ()
    science: tuple[ScienceSet, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing can be made."""
        return not (self.darks or self.bpms or self.flats or self.science)


def targets_with_needs(targets: Collection[Target]) -> frozenset[Target]:
    """Return the wanted kinds and all kinds that they are made with."""
    wanted = set(targets or TARGETS)
    for target in tuple(wanted):
        wanted.update(target_of(kind) for kind in kind_of_target(target).made_with())
    return frozenset(wanted)


def plan_night(
    frames: Sequence[RawFrame],
    parameters: ReductionParameters,
    *,
    bands: Collection[str] = (),
    only: Collection[Target] = (),
    across_nights: bool = False,
    join: bool = False,
) -> NightPlan:
    """Find out what can be made from ``frames``: the only place where frames are grouped.

    Parameters
    ----------
    frames
        The frames of the survey.
    parameters
        Parameters of the groups and minimum numbers of frames of the steps.
    bands
        Filters to reduce; all if empty.
    only
        Kinds of product to make, with what they need; all if empty.
    across_nights
        Combine science frames of several nights.
    join
        Combine adjacent science groups of one pointing.

    Returns
    -------
    NightPlan
        Sets in order of time; groups that are too small or incomplete are in ``left_out`` with the reason.
    """
    wanted = targets_with_needs(only)
    by_name = {f.name: f for f in frames}
    in_band = [f for f in frames if not bands or f.facts.kind == "dark" or f.facts.filter in bands]
    groups = calibration_groups([f.facts for f in frames], parameters.groups)
    left_out: list[LeftOut] = []

    def as_set(group: CalibrationGroup, what: str) -> FrameSet:
        night = by_name[group.members[0]].facts.night
        return FrameSet(label=f"{what} {night}", frames=tuple(by_name[name] for name in group.members))

    pairs = flat_groups(groups, parameters.groups)
    unpaired = [pair for pair in pairs if _outdone(pair, pairs)]
    every_flat = [_flat(pair, as_set) for pair in pairs if pair not in unpaired]
    flats = [flat for flat in every_flat if not bands or flat.filter in bands]
    left_out += _lamps_alone(groups, unpaired, every_flat, bands)
    science = _science(in_band, parameters.groups, by_name, across_nights=across_nights, join=join)
    darks = [g for g in groups if g.kind == "dark"]
    # A mask comes from the same flat whichever bands are selected.
    masks, reason = _bpms(every_flat, darks, parameters, as_set)
    if reason is not None and (flats or "bpm" in only):
        left_out.append(reason)
    if "science" not in wanted:
        science = []
    if (only or bands) and "dark" not in only:
        darks = [g for g in darks if _asked(g, flats, science)]
    matched = _darks(darks, flats, science, masks, parameters, as_set, left_out)
    left_out += [
        LeftOut(name=f"band {band}", reason="no frame of the night has this filter")
        for band in bands
        if not any(f.facts.filter == band for f in frames)
    ]
    return NightPlan(
        darks=tuple(matched) if "dark" in wanted else (),
        bpms=tuple(masks) if "bpm" in wanted else (),
        flats=tuple(flats) if "flat" in wanted else (),
        science=tuple(science),
        left_out=tuple(left_out),
    )


Naming = Callable[[CalibrationGroup, str], FrameSet]


def _flat(pair: FlatGroups, as_set: Naming) -> FlatSet:
    named = pair.on or pair.off
    assert named is not None
    on = as_set(pair.on, f"lamp on {named.filter}") if pair.on is not None else None
    off = as_set(pair.off, f"lamp off {named.filter}") if pair.off is not None else None
    darks = as_set(pair.darks, f"dark {named.exposure_time:g} s") if pair.darks is not None else None
    first = on or off
    assert first is not None
    return FlatSet(label=flat_label(first.first.facts), filter=named.filter, on=on, off=off, darks=darks)


def _outdone(pair: FlatGroups, pairs: Sequence[FlatGroups]) -> bool:
    """Return whether a set of lamp-ons without lamp-offs competes with a complete pair of the same filter.

    A frame with another read mode or exposure must not become a separate flat that rivals the real one.
    """
    if pair.on is None or pair.off is not None:
        return False
    return any(other.on is not None and other.off and other.filter_id == pair.filter_id for other in pairs)


def _lamps_alone(
    groups: Sequence[CalibrationGroup],
    unpaired: Sequence[FlatGroups],
    flats: Sequence[FlatSet],
    bands: Collection[str],
) -> list[LeftOut]:
    """Yield lamp-offs without lamp-ons, superfluous lamp-ons, and flats of unknown lamp state."""
    used = {f.name for flat in flats for part in (flat.on, flat.off) if part for f in part.frames}
    outdone = {name for pair in unpaired if pair.on is not None for name in pair.on.members}
    alone = [
        g
        for g in groups
        if g.kind == "flat" and not used.intersection(g.members) and (not bands or g.filter in bands)
    ]
    return [
        LeftOut(
            name=", ".join(group.members),
            reason=f"lamp-{group.lamp or 'unknown'} flats in {group.filter} of {group.exposure_time:g} s with "
            f"{group.read_pairs} read pairs, without "
            + ("lamp-offs" if group.lamp == "on" or outdone.intersection(group.members) else "lamp-ons")
            + " of the same exposure, read mode and filter"
            + (", and not needed in this band" if group.lamp == "on" and group.thermal else ""),
            remedy="Add the night that has them.",
        )
        for group in alone
    ]


def science_label(first: FrameFacts) -> str:
    """Return the usual label of a science group, from its first frame."""
    return f"{first.target or first.observation_id} {first.filter} {first.night}".strip()


def dark_label(first: FrameFacts) -> str:
    """Return the usual label of a group of darks, from its first frame."""
    return f"dark {first.exposure_time:g} s {first.night}"


def flat_label(first: FrameFacts) -> str:
    """Return the usual label of a flat, from its first frame with light."""
    return f"flat {first.filter} {first.night}"


def bpm_label(first: FrameFacts) -> str:
    """Return the usual label of a bad pixel mask, from the first frame of its flat."""
    return f"bad pixel mask {first.night}"


def _science(
    frames: Sequence[RawFrame],
    parameters: GroupParameters,
    by_name: Mapping[str, RawFrame],
    *,
    across_nights: bool,
    join: bool,
) -> list[ScienceSet]:
    plans = []
    for group in science_groups(
        [f.facts for f in frames], parameters, across_nights=across_nights, join=join
    ):
        members = tuple(by_name[name] for name in group.members)
        label = science_label(members[0].facts)
        plans.append(
            ScienceSet(
                label=label,
                frames=FrameSet(label=label, frames=members),
                objects=group.objects,
                skies=group.skies,
                mode=group.mode,
                notes=group.notes,
            )
        )
    return plans


def _bpms(
    flats: Sequence[FlatSet],
    darks: Sequence[CalibrationGroup],
    parameters: ReductionParameters,
    as_set: Naming,
) -> tuple[list[BpmSet], LeftOut | None]:
    """Plan bad pixel masks: one for each detector, and another where the previous one is too far in time.

    A mask belongs to the detector, not to a band: it comes from the flat with the most lamp frames.
    """
    limit = parameters.groups.longest_short_dark
    short = [g for g in darks if g.exposure_time <= limit]
    # A single dark with another read mode must not replace the night's set.
    short = [g for g in short if len(g.members) >= parameters.dark.min_frames] or short
    lamps = [f for f in flats if f.light_and_none[1] is not None]
    if not lamps:
        thermal = [f for f in flats if f.thermal]
        what = "lamp-offs to go with the lamp-ons"
        if thermal:
            what = f"darks of {thermal[0].first.first.facts.exposure_time:g} s to go with the lamp-offs"
        return [], _no_mask(f"no {what}", "Add them, or name a mask with --use bpm=NAME.")
    lamps.sort(key=lambda f: (f.thermal, -len(f.first.frames), f.first.first.facts.started))
    masks: list[BpmSet] = []
    for flat in lamps:
        facts = flat.first.first.facts
        (of,) = calibration_groups([facts], parameters.groups)
        near = nearest_group(of, short, parameters.groups, same=PIXELS, kind="bpm")
        if near is not None and not any(_reaches(mask, facts, parameters.groups) for mask in masks):
            shorts = as_set(near, f"dark {near.exposure_time:g} s")
            masks.append(BpmSet(label=bpm_label(facts), flat=flat, short_darks=shorts))
    if masks:
        return masks, None
    days = parameters.groups.days("pair", "bpm", lamps[0].first.first.facts.table)
    return [], _no_mask(
        f"no short darks (of {limit:g} s or less) within {days:g} days of the flats",
        "Add short darks, name a mask with --use bpm=NAME, or set groups.longest_short_dark.",
    )


def _no_mask(reason: str, remedy: str) -> LeftOut:
    return LeftOut(name=NO_MASK, reason=reason, remedy=remedy)


def _reaches(mask: BpmSet, facts: FrameFacts, parameters: GroupParameters) -> bool:
    """Return whether a mask serves a flat, by detector and time."""
    of = mask.flat.first.first.facts
    days = abs(of.started - facts.started) / timedelta(days=1)
    table = of.table
    same = of.instrument == facts.instrument and all(of.value(n) == facts.value(n) for n in table.same["bpm"])
    return same and days <= parameters.days("pair", "bpm", table)


def _asked(group: CalibrationGroup, flats: Sequence[FlatSet], science: Sequence[ScienceSet]) -> bool:
    """Return whether science or a K flat of the night needs a dark of this group."""
    wanting = [plan.frames.first.facts for plan in science]
    wanting += [flat.first.first.facts for flat in flats if flat.thermal]
    mine = group.facts.instrument, shared(group.facts, "dark")
    return any((f.instrument, shared(f, "dark")) == mine for f in wanting)


def _darks(
    darks: Sequence[CalibrationGroup],
    flats: Sequence[FlatSet],
    science: Sequence[ScienceSet],
    masks: Sequence[BpmSet],
    parameters: ReductionParameters,
    as_set: Naming,
    left_out: list[LeftOut],
) -> list[FrameSet]:
    """Return the groups that become master darks.

    Short darks that are used for the mask, but needed by neither science nor a K flat of the night, are not
    combined.
    """
    in_mask = {f.name for mask in masks for f in mask.short_darks.frames}
    sets = []
    for group in darks:
        if not _asked(group, flats, science) and in_mask.issuperset(group.members):
            continue
        few = len(group.members) < parameters.dark.min_frames
        if few:
            left_out.append(
                LeftOut(
                    name=", ".join(group.members),
                    reason=f"{len(group.members)} darks of {group.exposure_time:g} s with {group.read_pairs} "
                    f"read pairs and {group.coadds} coadds; a master dark needs {parameters.dark.min_frames}",
                    remedy="Take more, or lower dark.min_frames.",
                )
            )
            continue
        sets.append(as_set(group, f"dark {group.exposure_time:g} s"))
    return sets

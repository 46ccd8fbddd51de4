"""Bad pixel masks, made from lamp flats and short darks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final

from prefect.futures import PrefectFuture

from flows.recipes.flat import every_flat, flat_of
from flows.recipes.kind_recipe import KindRecipe, Members
from flows.recipes.night_plan import Planning
from flows.recipes.submissions import Submissions
from imaging.frames.alike import are_alike
from imaging.frames.calibration_groups import PIXELS, CalibrationGroup, calibration_groups, nearest_group
from imaging.frames.facts import FrameFacts
from imaging.frames.groups import GroupParameters
from imaging.kinds import KINDS, ProductKind
from tasks.bpm import BpmSet, build_bpm
from tasks.support.references import FrameSet, LeftOut, RawFrame


class BpmRecipe(KindRecipe[BpmSet]):
    """A mask from the lamp frames of a flat and short darks; it depends on raw frames only."""

    name: ClassVar[ProductKind] = "bpm"
    flow_label: ClassVar[str] = "bad pixel mask"

    def plan(self, night: Planning) -> list[BpmSet]:
        """Return a set for each detector, and another where the previous one is too far in time.

        A mask belongs to the detector, not to a band: it comes from the flat with the most lamp frames,
        whichever bands are selected.
        """
        short = _short_darks(night)
        lamps = [f for f in every_flat(night) if f.light_and_none[1] is not None]
        if not lamps:
            thermal = [f for f in every_flat(night) if f.thermal]
            what = "lamp-offs to go with the lamp-ons" if every_flat(night) else "lamp flats"
            if thermal:
                what = f"darks of {thermal[0].first.first.facts.exposure_time:g} s to go with the lamp-offs"
            _no_mask(night, f"no {what}", "Add them, or name a mask with --use bpm=NAME.")
            return []
        lamps.sort(key=lambda f: (f.thermal, -len(f.first.frames), f.first.first.facts.started))
        groups = night.parameters.groups
        masks: list[BpmSet] = []
        for flat in lamps:
            facts = flat.first.first.facts
            (of,) = calibration_groups([facts], groups)
            near = nearest_group(of, short, groups, same=PIXELS, kind="bpm")
            if near is not None and not any(_reaches(mask, facts, groups) for mask in masks):
                shorts = night.as_set(near, f"dark {near.exposure_time:g} s")
                masks.append(BpmSet(label=_label(facts), flat=flat, short_darks=shorts))
        if not masks:
            days = groups.days("pair", "bpm", lamps[0].first.first.facts.table)
            _no_mask(
                night,
                f"no short darks (of {groups.longest_short_dark:g} s or less) within {days:g} days of the flats",
                "Add short darks, name a mask with --use bpm=NAME, or set groups.longest_short_dark.",
            )
        return masks

    def again(self, members: Members) -> BpmSet:
        """Return the flat's frames and the short darks of a mask."""
        flat = flat_of(members)
        short = FrameSet(label="short darks", frames=members.of["short_dark"])
        return BpmSet(label=_label(flat.first.first.facts), flat=flat, short_darks=short)

    def build(self, one: BpmSet, calibrations: Any, run: Submissions) -> PrefectFuture[Any] | None:
        """Submit the step."""
        made: PrefectFuture[Any] = run.add(
            "bpm", one.label, build_bpm.submit(one, run.parameters.bpm, run.workspace)
        )
        return made

    def main(self, one: BpmSet) -> FrameSet:
        """Return the frames with light."""
        return one.flat.first

    def frames(self, one: BpmSet) -> Sequence[RawFrame]:
        """Return the frames with and without light, and the short darks."""
        return (*one.flat.frames, *one.short_darks.frames)

    def dated_by(self, one: BpmSet) -> Sequence[RawFrame]:
        """Return the lamp frames: short darks may be of another night."""
        return one.flat.lamps


def _short_darks(night: Planning) -> list[CalibrationGroup]:
    limit = night.parameters.groups.longest_short_dark
    short = [g for g in night.darks if g.exposure_time <= limit]
    # A single dark with another read mode must not replace the night's set.
    return [g for g in short if len(g.members) >= night.parameters.dark.min_frames] or short


def _no_mask(night: Planning, reason: str, remedy: str) -> None:
    """Note that no mask can be made, if a flat needs one or the user asked for one."""
    if night.planned["flat"] or "bpm" in night.only:
        night.left_out.append(LeftOut(name=KINDS["bpm"].label, reason=reason, remedy=remedy))


def _reaches(mask: BpmSet, facts: FrameFacts, parameters: GroupParameters) -> bool:
    """Return whether a mask serves a flat, by detector and time."""
    of = mask.flat.first.first.facts
    days = abs(of.started - facts.started) / timedelta(days=1)
    table = of.table
    return are_alike(of, facts, table.same["bpm"]) and days <= parameters.days("pair", "bpm", table)


def _label(first: FrameFacts) -> str:
    return f"bad pixel mask {first.night}"


RECIPE: Final = BpmRecipe()

"""Master flats, each of which needs a bad pixel mask, and in the K bands a dark."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Final

from prefect.futures import PrefectFuture

from flows.recipes.kind_recipe import KindRecipe, Members
from flows.recipes.night_plan import Planning
from flows.recipes.sky_flats import sky_flat_of, sky_flats, submit_sky_flat
from flows.recipes.submissions import Submissions
from imaging.frames.calibration_groups import FlatGroups
from imaging.frames.facts import FrameFacts
from imaging.kinds import CalibrationKind, ProductKind
from imaging.listed import counted
from tasks.flat import FlatSet, build_flat
from tasks.support.references import FrameSet, LeftOut, RawFrame


class FlatRecipe(KindRecipe[FlatSet]):
    """A flat from lamp-ons and lamp-offs; in the K bands from lamp-offs; without any of these, from the sky."""

    name: ClassVar[ProductKind] = "flat"

    def plan(self, night: Planning) -> list[FlatSet]:
        """Return the flats of the bands to reduce."""
        flats = every_flat(night)
        _note_lamps_alone(night, flats)
        wanted = [flat for flat in flats if not night.bands or flat.filter in night.bands]
        return [*wanted, *sky_flats(night, flats)]

    def again(self, members: Members) -> FlatSet:
        """Return the lamp frames of a flat, or the science frames of one from the sky."""
        return sky_flat_of(members.of["sky"]) if members.of.get("sky") else flat_of(members)

    def build(self, one: FlatSet, calibrations: Any, run: Submissions) -> PrefectFuture[Any] | None:
        """Submit the step; it waits for the choice of its calibrations.

        A mask or dark that failed does not fail the flat: the store may have another.
        """
        if one.sky is not None:
            return submit_sky_flat(one, calibrations, run)
        made: PrefectFuture[Any] = run.add(
            "flat", one.label, build_flat.submit(one, calibrations, run.parameters.flat, run.workspace)
        )
        return made

    def main(self, one: FlatSet) -> FrameSet:
        """Return the frames with light."""
        return one.first

    def frames(self, one: FlatSet) -> Sequence[RawFrame]:
        """Return the frames with and without light."""
        return one.frames

    def needs(self, one: FlatSet) -> tuple[CalibrationKind, ...]:
        """Return the calibrations of its band; a flat from the sky needs those of its frames."""
        return self.kind.made_with(thermal=one.thermal or one.sky is not None)

    def dated_by(self, one: FlatSet) -> Sequence[RawFrame]:
        """Return the lamp frames, or those with the sky: darks may be of another night."""
        return one.lamps if one.sky is None else one.sky.frames


def every_flat(night: Planning) -> list[FlatSet]:
    """Return the flats that a night's frames allow, of all bands."""
    unpaired = _outdone(night)
    return [_planned(pair, night) for pair in night.pairs if pair not in unpaired]


def flat_of(members: Members) -> FlatSet:
    """Return the lamp frames that a product was made from, as the set of a flat."""
    on, off, darks = (
        FrameSet(label=f"{role} {members.of[role][0].facts.night}", frames=members.of[role])
        if role in members.of
        else None
        for role in ("lamp_on", "lamp_off", "dark")
    )
    first = (on or off or darks).first.facts  # type: ignore[union-attr]  # one of them is there
    return FlatSet(label=_label(first), filter=first.filter, on=on, off=off, darks=darks)


def _planned(pair: FlatGroups, night: Planning) -> FlatSet:
    named = pair.on or pair.off
    assert named is not None
    on = night.as_set(pair.on, f"lamp on {named.filter}") if pair.on is not None else None
    off = night.as_set(pair.off, f"lamp off {named.filter}") if pair.off is not None else None
    darks = night.as_set(pair.darks, f"dark {named.exposure_time:g} s") if pair.darks is not None else None
    first = on or off
    assert first is not None
    return FlatSet(label=_label(first.first.facts), filter=named.filter, on=on, off=off, darks=darks)


def _outdone(night: Planning) -> list[FlatGroups]:
    """Return the sets of lamp-ons without lamp-offs that compete with a complete pair of the same filter.

    Frames with another read mode or exposure must not become a separate flat that rivals the real one.
    """
    complete = {pair.filter_id for pair in night.pairs if pair.on is not None and pair.off}
    return [pair for pair in night.pairs if pair.on and pair.off is None and pair.filter_id in complete]


def _note_lamps_alone(night: Planning, flats: Collection[FlatSet]) -> None:
    """Note lamp-offs without lamp-ons, superfluous lamp-ons, and flats of unknown lamp state."""
    used = {f.name for flat in flats for f in flat.lamps}
    outdone = {name for pair in _outdone(night) if pair.on is not None for name in pair.on.members}
    alone = [
        g
        for g in night.groups
        if g.kind == "flat"
        and not used.intersection(g.members)
        and (not night.bands or g.filter in night.bands)
    ]
    night.left_out += [
        LeftOut(
            name=", ".join(group.members),
            noun="group",
            reason=f"lamp-{group.lamp or 'unknown'} flats in {group.filter} of {group.exposure_time:g} s with "
            f"{counted(group.read_pairs, 'read pair')}, without "
            + ("lamp-offs" if group.lamp == "on" or outdone.intersection(group.members) else "lamp-ons")
            + " of the same exposure, read mode and filter"
            + (", and not needed in this band" if group.lamp == "on" and group.thermal else ""),
            remedy="Add the night that has them.",
        )
        for group in alone
    ]


def _label(first: FrameFacts) -> str:
    """Return the usual label of a flat, from its first frame with light."""
    return f"flat {first.filter} {first.night}"


RECIPE: Final = FlatRecipe()

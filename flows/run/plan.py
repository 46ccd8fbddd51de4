"""The plan of a night: the sets of frames to combine, and what they need.

Pure functions of the frames' facts. Nothing is read here, and nothing is decided that the rules of
association decide: the store chooses which product serves which frame. How the sets of a kind are found is
in its recipe (`flows.recipes`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from flows.recipes.all_recipes import RECIPES
from flows.recipes.night_plan import NightPlan, Planning
from imaging.kinds import KINDS, TARGETS, ProductKind, Target, kind_of_target, target_of
from tasks.support.parameters import ReductionParameters
from tasks.support.references import LeftOut, ProductSet, RawFrame

#: Names of what is left out of a night as such, not of frames.
_LABELS: Final = frozenset(kind.label for kind in KINDS.values())


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

    Frames of several instruments are planned as if each had its own folder; labels then name the instrument.

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
    instruments = tuple(dict.fromkeys(frame.facts.instrument for frame in frames)) or ("",)
    planned: dict[ProductKind, list[ProductSet]] = {}
    left_out: list[LeftOut] = []
    for instrument in instruments:
        its = [frame for frame in frames if frame.facts.instrument == instrument]
        night = _planned(Planning(its, parameters, wanted, bands, only, across_nights, join))
        for kind, found in night.planned.items():
            labelled = [_of(one, instrument) for one in found] if len(instruments) > 1 else found
            planned.setdefault(kind, []).extend(labelled)
        for one in night.left_out:
            about_all = len(instruments) > 1 and one.name in _LABELS
            left_out.append(
                one.model_copy(update={"name": f"{one.name} of {instrument}"}) if about_all else one
            )
    no_frames = [
        LeftOut(name=f"band {band}", noun="band", reason="no frame of the night has this filter")
        for band in bands
        if not any(f.facts.filter == band for f in frames)
    ]
    sets = {
        kind: tuple(planned[kind])
        for kind, recipe in RECIPES.items()
        if recipe.kind.target in wanted and planned.get(kind)
    }
    return NightPlan(sets, (*left_out, *no_frames))


def _planned(night: Planning) -> Planning:
    """Plan the products of one instrument."""
    # Calibrations come after what needs them: a dark that nothing needs may be left as it is.
    for kind, recipe in reversed(tuple(RECIPES.items())):
        night.planned[kind] = recipe.plan(night)
        for one in night.planned[kind]:
            for needed in recipe.needs(one):
                night.needing.setdefault(needed, []).append(recipe.main(one).first.facts)
    return night


def _of(one: ProductSet, instrument: str) -> ProductSet:
    """Return a set under a label with its instrument."""
    return one.model_copy(update={"label": f"{one.label} {instrument}"})

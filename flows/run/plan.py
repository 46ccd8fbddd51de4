"""The plan of a night: the sets of frames to combine, and what they need.

Pure functions of the frames' facts. Nothing is read here, and nothing is decided that the rules of
association decide: the store chooses which product serves which frame. How the sets of a kind are found is
in its recipe (`flows.recipes`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from flows.recipes.all_recipes import RECIPES
from flows.recipes.night_plan import NightPlan, Planning
from imaging.kinds import TARGETS, Target, kind_of_target, target_of
from tasks.support.parameters import ReductionParameters
from tasks.support.references import LeftOut, RawFrame


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
    night = Planning(frames, parameters, targets_with_needs(only), bands, only, across_nights, join)
    # Calibrations come after what needs them: a dark that nothing needs may be left as it is.
    for kind, recipe in reversed(tuple(RECIPES.items())):
        night.planned[kind] = recipe.plan(night)
        for one in night.planned[kind]:
            for needed in recipe.needs(one):
                night.needing.setdefault(needed, []).append(recipe.main(one).first.facts)
    no_frames = [
        LeftOut(name=f"band {band}", noun="band", reason="no frame of the night has this filter")
        for band in bands
        if not any(f.facts.filter == band for f in frames)
    ]
    sets = {
        kind: tuple(night.planned[kind])
        for kind, recipe in RECIPES.items()
        if recipe.kind.target in night.wanted and night.planned[kind]
    }
    return NightPlan(sets, (*night.left_out, *no_frames))

"""Science: each group of frames detrended, masked, sky-subtracted, aligned and stacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from prefect.futures import PrefectFuture

from flows.recipes.kind_recipe import KindRecipe, Members
from flows.recipes.night_plan import Planning
from flows.recipes.science_group import submit_stack
from flows.recipes.submissions import Submissions
from imaging.frames.facts import FrameFacts
from imaging.frames.groups import GroupParameters, science_groups
from imaging.kinds import CalibrationKind, ProductKind
from tasks.science.science_set import ScienceSet, for_group
from tasks.support.references import FrameSet, RawFrame

#: Groups that are reduced at a time if the scratch is scarce.
AT_A_TIME: Final = 2
#: Longer than any gap: the frames of a product form one group, whatever the gaps between them, days.
_ANY_GAP: Final = 1e5


class ScienceRecipe(KindRecipe[ScienceSet]):
    """A stack of one field in one band.

    A stack already in the store, made from the same frames with the same calibrations and parameters, is
    reused.
    """

    name: ClassVar[ProductKind] = "image"
    flow_label: ClassVar[str] = "science"
    sets_label: ClassVar[str] = "science groups"

    def plan(self, night: Planning) -> list[ScienceSet]:
        """Return the science groups, if stacks are wanted: those of standard fields first."""
        return (
            sorted(self.groups(night), key=lambda one: not one.is_standard)
            if "science" in night.wanted
            else []
        )

    def groups(self, night: Planning) -> list[ScienceSet]:
        """Return the science groups of a night in order of time."""
        facts = [f.facts for f in night.in_band]
        plans = []
        for group in science_groups(
            facts, night.parameters.groups, across_nights=night.across_nights, join=night.join
        ):
            members = tuple(night.by_name[name] for name in group.members)
            label = _label(members[0].facts)
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

    def again(self, members: Members) -> ScienceSet:
        """Return the group of a stack: its objects and their possible sky frames, as originally grouped."""
        recorded = [(role, facts) for role, facts in members.recorded if facts is not None]
        objects = [facts.name for role, facts in recorded if role == "science"]
        groups = science_groups(
            [facts for _, facts in recorded],
            GroupParameters().model_copy(update={"max_gap_days": _ANY_GAP}),
            across_nights=True,
        )
        same = [g for g in groups if set(g.objects) == set(objects) and len(g.members) == len(recorded)]
        skies = same[0].skies if same else [f.name for f in members.of.get("sky", ())] or objects
        usable = {frame.name for _, frame in members.usable}
        label = _label(members.of["science"][0].facts)
        ordered = tuple(frame for role in ("science", "sky") for frame in members.of.get(role, ()))
        return ScienceSet(
            label=label,
            frames=FrameSet(label=label, frames=ordered),
            objects=tuple(frame.name for frame in members.of["science"]),
            skies=tuple(name for name in skies if name in usable),
            mode="dither" if set(objects) <= set(skies) else "offset",
            notes=same[0].notes if same else (),
        )

    def build(self, one: ScienceSet, calibrations: Any, run: Submissions) -> PrefectFuture[Any] | None:
        """Find the stack, or submit its steps; a field waits for the standard fields of its run.

        If the scratch is scarce, it also waits for the group before the last one.
        """
        if run.workspace.scarce_scratch and len(run.stacks) >= AT_A_TIME:
            run.stacks[-AT_A_TIME].wait()
        if not one.is_standard:
            for standard in run.standards:
                standard.wait()
        future = submit_stack(run, one, calibrations)
        if future is not None:
            run.stacks.append(future)
            if one.is_standard:
                run.standards.append(future)
        return future

    def uses(self, one: ScienceSet, run: Submissions) -> tuple[CalibrationKind, ...]:
        """Return the optional calibrations, or of these only those that the user named (``stack.distortion``)."""
        parameters = for_group(run.parameters, one)
        if parameters.stack.distortion == "auto":
            return self.kind.uses
        return tuple(kind for kind in self.kind.uses if kind in run.choice.use)

    def main(self, one: ScienceSet) -> FrameSet:
        """Return all frames of the group."""
        return one.frames

    def first(self, one: ScienceSet) -> Sequence[RawFrame]:
        """Return the objects."""
        return [frame for frame in one.frames.frames if frame.name in one.objects]

    def notes(self, one: ScienceSet) -> tuple[str, ...]:
        """Return the notes of the grouping, and where the sky comes from."""
        return ("sky from frames next to the field", *one.notes) if one.mode == "offset" else one.notes

    def steps(self, one: ScienceSet) -> int:
        """Return the detrending of every frame, catalogue of each object, masks, sky, alignment, stack."""
        return len(one.frames.frames) + len(one.objects) + 4


def _label(first: FrameFacts) -> str:
    """Return the usual label of a science group, from its first frame."""
    return f"{first.target or first.observation_id} {first.filter} {first.night}".strip()


RECIPE: Final = ScienceRecipe()

"""The distortion of the camera: a group of science frames detrended and sky-subtracted, and its stars compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from prefect.futures import PrefectFuture

from flows.recipes.kind_recipe import KindRecipe, Members
from flows.recipes.night_plan import Planning
from flows.recipes.science import RECIPE as SCIENCE
from flows.recipes.science_group import look_for_exposures, submit_sources
from flows.recipes.submissions import Submissions
from imaging.kinds import ProductKind
from imaging.listed import counted
from tasks.align import align_group
from tasks.science.build_distortion import build_distortion, find_distortion
from tasks.science.science_set import ScienceSet, for_group
from tasks.support.references import FrameSet, LeftOut, RawFrame


class DistortionRecipe(KindRecipe[ScienceSet]):
    """A distortion from the frames of one science group, made on request only.

    A night whose stacks are wanted does not need it, and most fields do not show it.
    """

    name: ClassVar[ProductKind] = "distortion"
    sets_label: ClassVar[str] = "fields for the distortion"

    def plan(self, night: Planning) -> list[ScienceSet]:
        """Return the science groups, if distortions are asked for; those of too few frames are left out."""
        if self.kind.target not in night.only:
            return []
        least = getattr(night.parameters, self.kind.step).min_frames
        sets = []
        for group in SCIENCE.groups(night):
            label = _label(group)
            if len(group.objects) < least:
                night.left_out.append(
                    LeftOut(
                        name=label,
                        noun="group",
                        reason=f"it has {counted(len(group.objects), 'frame')} of the field, and {least} are needed",
                        remedy="Give a dithered sequence (distortion.min_frames).",
                    )
                )
                continue
            sets.append(group.model_copy(update={"label": label}))
        return sets

    def again(self, members: Members) -> ScienceSet:
        """Return the group of a distortion, as originally grouped."""
        group = SCIENCE.again(members)
        return group.model_copy(update={"label": _label(group)})

    def build(self, one: ScienceSet, calibrations: Any, run: Submissions) -> PrefectFuture[Any] | None:
        """Find the distortion, or submit its steps."""
        looking = look_for_exposures(run, one, calibrations)
        if looking is None:
            return None
        found: PrefectFuture[Any] = find_distortion.submit(
            one, calibrations, run.parameters, run.workspace, looking
        )
        run.add(self.kind.step, one.label, found)
        if found.result(raise_on_failure=False) is not None:
            return found
        chosen, exposures = calibrations.result(), looking.result()
        group = one.served_by(chosen)
        detected = submit_sources(run, group, chosen, exposures)
        aligned: Any = align_group.submit(  # type: ignore[call-overload]
            group.label,
            detected.catalogues,
            for_group(run.parameters, group).align,
            run.workspace,
            wait_for=[detected.processed],
        )
        run.add("align", group.label, aligned)
        made: PrefectFuture[Any] = run.add(
            self.kind.step,
            group.label,
            build_distortion.submit(group, chosen, aligned, run.parameters, run.workspace, exposures),
        )
        return made

    def main(self, one: ScienceSet) -> FrameSet:
        """Return all frames of the group."""
        return one.frames

    def first(self, one: ScienceSet) -> Sequence[RawFrame]:
        """Return the objects."""
        return SCIENCE.first(one)

    def notes(self, one: ScienceSet) -> tuple[str, ...]:
        """Return the notes of the grouping."""
        return SCIENCE.notes(one)

    def steps(self, one: ScienceSet) -> int:
        """Return the detrending of every frame, catalogue of each object, masks, sky, alignment, distortion."""
        return len(one.frames.frames) + len(one.objects) + 4


def _label(group: ScienceSet) -> str:
    """Return the usual label of a distortion."""
    first = next(frame.facts for frame in group.frames.frames if frame.name in group.objects)
    return f"distortion {first.filter} {first.target or first.observation_id} {first.night}"


RECIPE: Final = DistortionRecipe()

"""Master darks, made from every group of darks that is needed."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from prefect.futures import PrefectFuture

from flows.recipes.kind_recipe import KindRecipe, Members
from flows.recipes.night_plan import Planning
from flows.recipes.submissions import Submissions
from imaging.frames.facts import FrameFacts
from imaging.kinds import ProductKind
from imaging.listed import counted
from tasks.dark import build_dark
from tasks.support.references import FrameSet, LeftOut


class DarkRecipe(KindRecipe[FrameSet]):
    """A master dark from a group of darks; it depends on nothing."""

    name: ClassVar[ProductKind] = "dark"

    def plan(self, night: Planning) -> list[FrameSet]:
        """Return the groups that become master darks.

        Short darks that are used for the mask, but needed by no product of the night, are not combined; if
        only some products or bands are wanted, nor are any others that none of these needs.
        """
        in_mask = {f.name for mask in night.planned["bpm"] for f in mask.short_darks.frames}
        unasked = (night.only or night.bands) and "dark" not in night.only
        least = night.parameters.dark.min_frames
        sets = []
        for group in night.darks:
            if (unasked or in_mask.issuperset(group.members)) and not night.asks_for(group, "dark"):
                continue
            if len(group.members) < least:
                night.left_out.append(
                    LeftOut(
                        name=", ".join(group.members),
                        noun="group",
                        reason=f"{counted(len(group.members), 'dark')} of {group.exposure_time:g} s with "
                        f"{counted(group.read_pairs, 'read pair')} and {counted(group.coadds, 'coadd')}; a master dark "
                        f"needs {least}",
                        remedy="Take more, or lower dark.min_frames.",
                    )
                )
                continue
            sets.append(night.as_set(group, f"dark {group.exposure_time:g} s"))
        return sets

    def again(self, members: Members) -> FrameSet:
        """Return the frames of a master dark under its usual label."""
        frames = members.of["dark"]
        return FrameSet(label=_label(frames[0].facts), frames=frames)

    def build(self, one: FrameSet, calibrations: Any, run: Submissions) -> PrefectFuture[Any] | None:
        """Submit the step."""
        made: PrefectFuture[Any] = run.add(
            "dark", one.label, build_dark.submit(one, run.parameters.dark, run.workspace)
        )
        return made

    def main(self, one: FrameSet) -> FrameSet:
        """Return the darks."""
        return one


def _label(first: FrameFacts) -> str:
    return f"dark {first.exposure_time:g} s {first.night}"


RECIPE: Final = DarkRecipe()

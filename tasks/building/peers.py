"""Frames that are left out of a calibration because they are unlike the others of their set."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from imaging.calibrations.peers import OddFrame
from tasks.building.recipe import Ingredient
from tasks.support.references import LeftOut


def left_out(odd: Sequence[OddFrame], step: str) -> tuple[LeftOut, ...]:
    """Return the frames with their figures, as shown in the product and the report."""
    return tuple(
        LeftOut(
            name=one.name,
            reason=one.reason if one.alone else f"unlike the other frames of its set: {one.reason}",
            remedy="Inspect the frame. If it is good, change the limit named above"
            + (f" (a parameter of the step {step})." if "(peer_" in one.reason else "."),
        )
        for one in odd
    )


def combined(ingredients: Sequence[Ingredient], odd: Collection[OddFrame]) -> tuple[str, ...] | None:
    """Return the names of the frames that the product is made from; None if all of them are."""
    names = {one.name for one in odd}
    return tuple(i.frame.name for i in ingredients if i.frame.name not in names) if names else None

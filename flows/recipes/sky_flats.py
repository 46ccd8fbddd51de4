"""Flats from the sky: which science groups of a night would need one, and how it is submitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.futures import PrefectFuture

from flows.recipes.night_plan import Planning
from flows.recipes.submissions import Submissions
from imaging.frames.alike import are_alike
from tasks.fallbacks.sky_flat import build_sky_flat, lamp_flat_serves
from tasks.flat import FlatSet
from tasks.support.references import FrameSet, LeftOut, RawFrame


def sky_flats(night: Planning, flats: Sequence[FlatSet]) -> list[FlatSet]:
    """Return a set for each science group without a flat of a lamp, if such flats are wanted.

    Parameters
    ----------
    night
        The night, whose science groups are planned.
    flats
        The flats of lamps that its frames allow.
    """
    parameters = night.parameters.sky_flat
    if parameters.make == "never":
        return []
    found = []
    for group in night.planned.get("image", ()):
        first = group.frames.first.facts
        if any(are_alike(first, flat.first.first.facts, first.table.same["flat"]) for flat in flats):
            continue
        frames = tuple(frame for frame in group.frames.frames if frame.name in group.skies)
        if len(frames) >= parameters.min_frames:
            found.append(sky_flat_of(frames))
        else:
            night.left_out.append(
                LeftOut(
                    name=", ".join(frame.name for frame in frames),
                    noun="group",
                    reason=f"{len(frames)} science frames are too few for a flat from their sky; "
                    f"{parameters.min_frames} are needed (sky_flat.min_frames)",
                    remedy="Add the night that has its lamp flats.",
                )
            )
    return found


def sky_flat_of(frames: tuple[RawFrame, ...]) -> FlatSet:
    """Return science frames as the set of a flat from their sky."""
    first = frames[0].facts
    label = f"flat {first.filter} {first.night} from the sky"
    sky = FrameSet(label=f"sky {first.filter} {first.night}", frames=frames)
    return FlatSet(label=label, filter=first.filter, on=None, off=None, sky=sky)


def submit_sky_flat(one: FlatSet, calibrations: Any, run: Submissions) -> PrefectFuture[Any] | None:
    """Submit a flat from the sky, unless the user names a flat or the store has one of a lamp.

    Returns
    -------
    PrefectFuture or None
        The flat; None if it is not needed, or if its calibrations could not be chosen.
    """
    if "flat" in run.choice.use:
        return None
    calibrations.wait()
    if not calibrations.state.is_completed():
        return None
    looking: Any = lamp_flat_serves.submit(one.label, one.first, run.choice, run.workspace)
    run.add("flat", one.label, looking)
    looking.wait()
    if not looking.state.is_completed() or looking.result():
        return None
    made: PrefectFuture[Any] = run.add(
        "flat",
        one.label,
        build_sky_flat.submit(one, calibrations, run.parameters.sky_flat, run.workspace),
    )
    return made

"""The steps of one science group: detrending, object masks, sky subtraction, alignment and stack."""

from __future__ import annotations

from typing import Any

from prefect import allow_failure
from prefect.futures import PrefectFuture

from flows.recipes.submissions import Submissions
from tasks.align import align_group
from tasks.detect import detect_sources
from tasks.detrend import Detrending, detrend_frame
from tasks.earlier_exposures import Exposures, find_exposures
from tasks.masks import find_masks
from tasks.sky import subtract_group_sky
from tasks.stack import ScienceSet, build_stack, find_stack, for_group
from tasks.starlight.second_sky import remove_starlight
from tasks.support.references import Calibrations


def submit_stack(run: Submissions, group: ScienceSet, choosing: Any) -> PrefectFuture[Any] | None:
    """Find the stack of a group whose calibrations are being chosen, or submit its steps.

    Returns
    -------
    PrefectFuture or None
        The stack; None if its calibrations could not be chosen.
    """
    choosing.wait()
    if not choosing.state.is_completed():
        return None
    looking: Any = find_exposures.submit(
        group.label, group.frames, choosing, run.parameters.detrend, run.workspace
    )
    run.add("exposures", group.label, looking)
    looking.wait()
    if not looking.state.is_completed():
        return None
    found: PrefectFuture[Any] = find_stack.submit(group, choosing, run.parameters, run.workspace, looking)
    run.add("science", group.label, found)
    if found.result(raise_on_failure=False) is not None:
        return found
    calibrations = choosing.result()
    return submit_group(run, group.served_by(calibrations), calibrations, looking.result())


def submit_group(
    run: Submissions, group: ScienceSet, calibrations: Calibrations, exposures: Exposures
) -> PrefectFuture[Any]:
    """Submit the steps of one science group and return the last of them."""
    p, workspace = for_group(run.parameters, group), run.workspace
    detrended = {
        frame.name: run.add(
            "detrend", frame.name,
            detrend_frame.submit(frame, calibrations, p.prepare, p.detrend, workspace, exposures),
            minor=True,
        )
        for frame in group.frames.frames
    }  # fmt: skip
    frames = {name: allow_failure(one) for name, one in detrended.items()}
    detrending = Detrending(
        calibrations=calibrations, prepare=p.prepare, parameters=p.detrend, exposures=exposures
    )
    masks: Any = find_masks.submit(group.label, frames, group.skies, detrending, p.sky, p.detect, workspace)
    run.add("sky", group.label, masks)
    sky: Any = subtract_group_sky.submit(
        group.label, frames, group.objects, group.skies, detrending, p.sky, workspace, masks
    )
    run.add("sky", group.label, sky)
    sources = {
        name: run.add("detect", name, detect_sources.submit(sky, name, p.detect, workspace), minor=True)
        for name in group.objects
    }
    catalogues = {name: allow_failure(one) for name, one in sources.items()}
    aligned: Any = align_group.submit(  # type: ignore[call-overload]
        group.label, catalogues, p.align, workspace, wait_for=[sky]
    )
    run.add("align", group.label, aligned)
    without: Any = remove_starlight.submit(group, frames, detrending, masks, sky, aligned, p, workspace)
    run.add("starlight", group.label, without)
    stack: PrefectFuture[Any] = run.add(
        "science",
        group.label,
        build_stack.submit(group, calibrations, without, aligned, p, workspace, exposures),
    )
    return stack

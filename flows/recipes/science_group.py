"""The steps of one science group: detrending, object masks, sky subtraction, alignment and stack."""

from __future__ import annotations

from typing import Any, NamedTuple

from prefect import allow_failure
from prefect.futures import PrefectFuture

from flows.recipes.submissions import Submissions
from imaging.kinds import REQUIRED_KINDS
from imaging.own_steps.uses import Point
from tasks.align import align_group
from tasks.detect import detect_sources
from tasks.detrend import Detrending, apply_own_steps, detrend_frame
from tasks.earlier_exposures import Exposures, find_exposures
from tasks.masks import find_masks
from tasks.own_steps.resolve import NO_OWN_STEPS, OwnSteps, find_own_steps
from tasks.science.science_set import ScienceSet, for_group
from tasks.sky import apply_before_stack, gather_before_stack, subtract_group_sky
from tasks.stack import build_stack, find_stack
from tasks.starlight.second_sky import remove_starlight
from tasks.support.references import Calibrations


class Detected(NamedTuple):
    """The submitted steps of a group up to its sources.

    Attributes
    ----------
    frames
        The detrended frames, by name.
    detrending
        What they are detrended with.
    masks, sky
        The object masks and the first pass of the sky.
    processed
        The sky-subtracted frames after the user's own steps, if there are any.
    catalogues
        The sources of each object, by name.
    """

    frames: dict[str, Any]
    detrending: Detrending
    masks: Any
    sky: Any
    processed: Any
    catalogues: dict[str, Any]


def submit_stack(run: Submissions, group: ScienceSet, choosing: Any) -> PrefectFuture[Any] | None:
    """Find the stack of a group whose calibrations are being chosen, or submit its steps.

    Returns
    -------
    PrefectFuture or None
        The stack; None if its calibrations could not be chosen.
    """
    looking = look_for_exposures(run, group, choosing)
    if looking is None:
        return None
    own = NO_OWN_STEPS
    if run.parameters.steps.used:
        finding: Any = find_own_steps.submit(group.label, run.parameters.steps, run.workspace)
        run.add("science", group.label, finding)
        finding.wait()
        if not finding.state.is_completed():
            return None
        own = finding.result()
    found: PrefectFuture[Any] = find_stack.submit(
        group, choosing, run.parameters, run.workspace, looking, own
    )
    run.add("science", group.label, found)
    if found.result(raise_on_failure=False) is not None:
        return found
    calibrations = choosing.result()
    return submit_group(run, group.served_by(calibrations), calibrations, looking.result(), own)


def look_for_exposures(run: Submissions, group: ScienceSet, choosing: Any) -> Any:
    """Look for exposures that may persist in a group whose calibrations are being chosen, and wait for the answer.

    Returns
    -------
    PrefectFuture or None
        The exposures; None if they are not known, or no calibrations could be chosen.
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
    return looking


def submit_group(
    run: Submissions,
    group: ScienceSet,
    calibrations: Calibrations,
    exposures: Exposures,
    own: OwnSteps = NO_OWN_STEPS,
) -> PrefectFuture[Any]:
    """Submit the steps of one science group, with the user's own among them, and return the last one."""
    p, workspace = for_group(run.parameters, group), run.workspace
    frames, detrending, masks, sky, processed, catalogues = submit_sources(
        run, group, calibrations, exposures, own
    )
    distortion = next((one for one in calibrations.present if one.kind not in REQUIRED_KINDS), None)
    aligned: Any = align_group.submit(  # type: ignore[call-overload]
        group.label, catalogues, p.align, workspace, distortion, wait_for=[processed]
    )
    run.add("align", group.label, aligned)
    subtracted: Any = remove_starlight.submit(group, frames, detrending, masks, sky, aligned, p, workspace)
    run.add("starlight", group.label, subtracted)
    if own.before_stack:  # frames that the starlight did not change are there already
        subtracted = _before_stack(run, group, subtracted, detrending, masks)
    stack: PrefectFuture[Any] = run.add(
        "science",
        group.label,
        build_stack.submit(group, calibrations, subtracted, aligned, p, workspace, exposures, own),
    )
    return stack


def submit_sources(
    run: Submissions,
    group: ScienceSet,
    calibrations: Calibrations,
    exposures: Exposures,
    own: OwnSteps = NO_OWN_STEPS,
) -> Detected:
    """Submit the steps of one group up to its sources, with the user's own among them."""
    p, workspace = for_group(run.parameters, group), run.workspace
    calibrations = calibrations.required
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
        calibrations=calibrations, prepare=p.prepare, parameters=p.detrend, exposures=exposures, own=own
    )
    frames = _with_own_steps(run, frames, "after_detrend", detrending)
    detrending = detrending.after("after_detrend")
    masks: Any = find_masks.submit(group.label, frames, group.skies, detrending, p.sky, p.detect, workspace)
    run.add("sky", group.label, masks)
    frames = _with_own_steps(run, frames, "before_sky", detrending, masks)
    sky: Any = subtract_group_sky.submit(
        group.label, frames, group.objects, group.skies, detrending, p.sky, workspace, masks
    )
    run.add("sky", group.label, sky)
    processed = _before_stack(run, group, sky, detrending, masks) if own.before_stack else sky
    sources = {
        name: run.add("detect", name, detect_sources.submit(processed, name, p.detect, workspace), minor=True)
        for name in group.objects
    }
    catalogues = {name: allow_failure(one) for name, one in sources.items()}
    return Detected(frames, detrending, masks, sky, processed, catalogues)


def _with_own_steps(
    run: Submissions, frames: dict[str, Any], point: Point, detrending: Detrending, masks: Any = None
) -> dict[str, Any]:
    """Submit the user's steps at a point, one task a frame; without any the frames stay what they are."""
    if not detrending.own.at(point):
        return frames
    names = detrending.own.names(point)
    return {
        name: allow_failure(
            run.add(
                "own steps", name,
                apply_own_steps.submit(
                    names, name, frame, point, detrending, len(frames), run.workspace, masks
                ),
                minor=True,
            )
        )
        for name, frame in frames.items()
    }  # fmt: skip


def _before_stack(run: Submissions, group: ScienceSet, sky: Any, detrending: Detrending, masks: Any) -> Any:
    """Submit the user's steps before the stack, and return the task with the frames after them."""
    names = detrending.own.names("before_stack")
    done = {
        name: run.add(
            "own steps", name,
            apply_before_stack.submit(names, name, sky, detrending, masks, run.workspace),
            minor=True,
        )
        for name in group.objects
    }  # fmt: skip
    outcomes = {name: allow_failure(one) for name, one in done.items()}
    gathered: Any = gather_before_stack.submit(group.label, sky, outcomes)
    return run.add("own steps", group.label, gathered)

"""Science: each group of frames detrended, sky-subtracted twice, aligned and stacked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from prefect import allow_failure, flow
from prefect.futures import PrefectFuture

from flows.bpm import submit_bpms
from flows.dark import submit_darks
from flows.flat import submit_flats
from flows.report import NightReport
from flows.running import Night, Options, reduce_with
from tasks.align import align_group
from tasks.choose import choose_calibrations
from tasks.detect import detect_sources
from tasks.detrend import detrend_frame
from tasks.references import CalibrationKind, Calibrations, ScienceSet
from tasks.sky import subtract_group_sky
from tasks.stack import build_stack, find_stack

#: What science is made with.
KINDS: Final[tuple[CalibrationKind, ...]] = ("dark", "bpm", "flat")


def submit_science(night: Night, built: Sequence[PrefectFuture[Any]]) -> None:
    """Submit the night's science groups; each waits for the night's calibrations.

    A group whose stack is in the store already, made from the same frames with the same calibrations and
    parameters, is taken from there.
    """
    products = [allow_failure(product) for product in built]
    chosen: list[Any] = [
        choose_calibrations.submit(
            group.label, group.frames, KINDS, products, night.options.choice, night.workspace
        )
        for group in night.plan.science
    ]
    for group, choosing in zip(night.plan.science, chosen, strict=True):
        submit_stack(night, group, choosing)


def submit_stack(night: Night, group: ScienceSet, choosing: Any) -> PrefectFuture[Any] | None:
    """Find the stack of a group whose calibrations are being chosen, or submit its steps.

    Returns
    -------
    PrefectFuture or None
        The stack; None where its calibrations could not be chosen.
    """
    night.add("science", group.label, choosing)
    choosing.wait()
    if not choosing.state.is_completed():
        return None
    found: PrefectFuture[Any] = find_stack.submit(group, choosing, night.parameters, night.workspace)
    night.add("science", group.label, found)
    if found.result(raise_on_failure=False) is not None:
        return found
    return submit_group(night, group, choosing.result())


def submit_with_calibrations(night: Night) -> None:
    """Submit the night's darks, masks and flats, and the science that waits for them."""
    darks, bpms = submit_darks(night), submit_bpms(night)
    submit_science(night, [*darks, *bpms, *submit_flats(night, darks, bpms)])


def submit_group(night: Night, group: ScienceSet, calibrations: Calibrations) -> PrefectFuture[Any]:
    """Submit the steps of one science group; the last of them is returned."""
    p, workspace = night.parameters, night.workspace
    names = [frame.name for frame in group.frames.frames]
    detrended = {
        frame.name: night.add(
            "detrend", frame.name,
            detrend_frame.submit(frame, calibrations, p.prepare, p.detrend, workspace), minor=True,
        )
        for frame in group.frames.frames
    }  # fmt: skip
    frames = {name: allow_failure(one) for name, one in detrended.items()}
    flat = calibrations.flat
    first: Any = subtract_group_sky.submit(
        group.label, 1, frames, tuple(names), group.skies, flat, p.sky, workspace
    )
    night.add("sky", group.label, first)
    masks = {
        name: night.add(
            "detect", name, detect_sources.submit(first, name, "mask", p.detect, workspace), minor=True
        )
        for name in names
    }
    second: Any = subtract_group_sky.submit(  # type: ignore[call-overload]  # wait_for without return_state
        group.label, 2, frames, group.objects, group.skies, flat, p.sky, workspace,
        masks={name: allow_failure(mask) for name, mask in masks.items()}, wait_for=[first],
    )  # fmt: skip
    night.add("sky", group.label, second)
    sources = {
        name: night.add(
            "detect", name, detect_sources.submit(second, name, "catalogue", p.detect, workspace), minor=True
        )
        for name in group.objects
    }
    catalogues = {name: allow_failure(one) for name, one in sources.items()}
    aligned: Any = align_group.submit(  # type: ignore[call-overload]
        group.label, catalogues, p.align, workspace, wait_for=[second]
    )
    night.add("align", group.label, aligned)
    stack: PrefectFuture[Any] = night.add(
        "science", group.label, build_stack.submit(group, calibrations, second, aligned, p, workspace)
    )
    return stack


@flow(name="science", flow_run_name="science in {out}")
def reduce_science(
    paths: Sequence[str | Path], out: str | Path = "out", options: Options = Options()
) -> NightReport:
    """Reduce the science frames in ``paths``, and make the calibrations among them that they need."""
    return reduce_with(submit_with_calibrations, paths, out, options.limited_to("science"), "science")

"""The flow for science: each group of frames detrended, sky-subtracted twice, aligned and stacked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import allow_failure, flow
from prefect.futures import PrefectFuture

from flows.bpm import submit_bpms
from flows.dark import submit_darks
from flows.flat import submit_flats
from flows.run.in_progress import Night
from flows.run.options import Options
from flows.run.report import NightReport
from flows.run.run import reduce_with
from flows.run.science_group import submit_stack
from imaging.kinds import KINDS
from tasks.choose import choose_calibrations


def submit_science(night: Night, built: Sequence[PrefectFuture[Any]]) -> None:
    """Submit the night's science groups; each waits for the night's calibrations.

    A stack already in the store, made from the same frames with the same calibrations and parameters, is
    reused.
    """
    products = [allow_failure(product) for product in built]
    chosen: list[Any] = [
        choose_calibrations.submit(
            group.label,
            group.frames,
            KINDS["image"].made_with(),
            products,
            night.options.choice,
            night.workspace,
        )
        for group in night.plan.science
    ]
    for group, choosing in zip(night.plan.science, chosen, strict=True):
        submit_stack(night, group, choosing)


def submit_with_calibrations(night: Night) -> None:
    """Submit the night's darks, masks and flats, and the science that depends on them."""
    darks, bpms = submit_darks(night), submit_bpms(night)
    submit_science(night, [*darks, *bpms, *submit_flats(night, darks, bpms)])


@flow(name="science", flow_run_name="science in {out}")
def reduce_science(
    paths: Sequence[str | Path], out: str | Path = "out", options: Options = Options()
) -> NightReport:
    """Reduce the science frames in ``paths``, and make the calibrations among them that they need."""
    return reduce_with(submit_with_calibrations, paths, out, options.limited_to("science"), "science")

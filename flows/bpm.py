"""The flow for bad pixel masks, made from lamp flats and short darks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture

from flows.run.in_progress import Night
from flows.run.options import Options
from flows.run.report import NightReport
from flows.run.run import reduce_with
from tasks.bpm import build_bpm


def submit_bpms(night: Night) -> list[PrefectFuture[Any]]:
    """Submit the night's bad pixel mask; it depends on raw frames only."""
    return [
        night.add("bpm", plan.label, build_bpm.submit(plan, night.parameters.bpm, night.workspace))
        for plan in night.plan.bpms
    ]


@flow(name="bpm", flow_run_name="bad pixel mask in {out}")
def reduce_bpm(
    paths: Sequence[str | Path], out: str | Path = "out", options: Options = Options()
) -> NightReport:
    """Make the bad pixel mask of the raw flats and short darks in ``paths``."""
    return reduce_with(submit_bpms, paths, out, options.limited_to("bpm"), "bad pixel mask")

"""The flow for master darks, made from every group of darks that is needed."""

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
from tasks.dark import build_dark


def submit_darks(night: Night) -> list[PrefectFuture[Any]]:
    """Submit the night's darks; they depend on nothing."""
    return [
        night.add("dark", frames.label, build_dark.submit(frames, night.parameters.dark, night.workspace))
        for frames in night.plan.darks
    ]


@flow(name="dark", flow_run_name="darks in {out}")
def reduce_darks(
    paths: Sequence[str | Path], out: str | Path = "out", options: Options = Options()
) -> NightReport:
    """Make the master darks of the raw frames in ``paths``."""
    return reduce_with(submit_darks, paths, out, options.limited_to("dark"), "darks")

"""Master darks: every group of darks that something needs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture

from flows.report import NightReport
from flows.running import Night, Options, night_of, report_of, timing
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
    began = datetime.now(UTC)
    options = options.model_copy(update={"only": ("dark",)})
    with timing() as seconds, night_of(paths, out, options, "darks") as night:
        submit_darks(night)
        return report_of(night, began, seconds)

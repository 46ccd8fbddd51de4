"""The flow for master flats, each of which needs a bad pixel mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import allow_failure, flow
from prefect.futures import PrefectFuture

from flows.bpm import submit_bpms
from flows.dark import submit_darks
from flows.run.in_progress import Night
from flows.run.options import Options
from flows.run.report import NightReport
from flows.run.run import reduce_with
from imaging.kinds import KINDS
from tasks.choose import choose_calibrations
from tasks.flat import build_flat


def submit_flats(
    night: Night, darks: Sequence[PrefectFuture[Any]], bpms: Sequence[PrefectFuture[Any]]
) -> list[PrefectFuture[Any]]:
    """Submit the night's flats; each waits for the night's masks and uses the one chosen by the rules.

    In the K bands it needs a dark as well. A mask or dark that failed does not fail the flat: the store may
    have another.
    """
    flats = []
    for plan in night.plan.flats:
        kinds = KINDS["flat"].made_with(thermal=plan.thermal)
        built = [allow_failure(one) for one in ((*darks, *bpms) if plan.thermal else bpms)]
        chosen: Any = choose_calibrations.submit(
            plan.label, plan.first, kinds, built, night.options.choice, night.workspace
        )
        night.add("flat", plan.label, chosen)
        flat = build_flat.submit(plan, chosen, night.parameters.flat, night.workspace)
        flats.append(night.add("flat", plan.label, flat))
    return flats


@flow(name="flat", flow_run_name="flats in {out}")
def reduce_flats(
    paths: Sequence[str | Path], out: str | Path = "out", options: Options = Options()
) -> NightReport:
    """Make the flats of the raw frames in ``paths``, and the bad pixel mask that they need."""

    def submit(night: Night) -> None:
        submit_flats(night, submit_darks(night), submit_bpms(night))

    return reduce_with(submit, paths, out, options.limited_to("flat"), "flats")

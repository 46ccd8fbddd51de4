"""The flow for a mosaic: the stacks of a field, of several nights or pointings, combined into one image."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import allow_failure, flow, runtime

from flows.recipes.submissions import Submissions
from flows.run.options import Options
from flows.run.output_folders import make_writable
from flows.run.report import NightReport
from flows.run.run import outcomes_of, publish, timing
from flows.run.temporary_files import limit_temporary_files
from imaging.io.descriptors import raise_limit
from imaging.kinds import MOSAIC
from tasks.choose import Choice
from tasks.mosaic.arrange_stacks import arrange_stacks
from tasks.mosaic.build_mosaic import build_mosaic, find_mosaic, for_stacks
from tasks.mosaic.choose_stacks import ChosenStacks, MosaicSet, StackSelection, choose_stacks
from tasks.mosaic.measure_stack import measure_stack
from tasks.support.allocator import give_back_planes
from tasks.support.best_effort import best_effort
from tasks.support.references import gathered_left_out
from tasks.support.step_runner import step_runner

__all__ = ["Options", "StackSelection", "combine_stacks", "combine_with"]

logger = logging.getLogger(__name__)


@flow(name="mosaic", flow_run_name="mosaic in {out}", task_runner=step_runner())
def combine_stacks(
    selection: StackSelection, out: str | Path = "out", options: Options = Options()
) -> NightReport:
    """Combine stacks of several nights or pointings into one image for each band.

    The stacks are those in the store that count. They are placed by their world coordinates and by the stars that they
    have in common, scaled by zero points and these stars, weighted by the signal of a point source, and their
    backgrounds are matched. A mosaic supersedes nothing, and no other step uses it.

    Parameters
    ----------
    selection
        Target or observation, and nights.
    out
        Folder for the mosaics and their previews.
    options
        Bands, parameters, and the moment as of which the stacks are chosen.

    Returns
    -------
    NightReport
        Mosaics with their quality figures, stacks left out and failures with reasons, times.

    Raises
    ------
    NirflowError
        If there are no such stacks, the output folder cannot be written to, or the store does not respond.

    Examples
    --------
    >>> from nirflow import services  # doctest: +SKIP
    >>> with services():  # doctest: +SKIP
    ...     report = combine_stacks(StackSelection(target="WISE 0855"), "out")
    """
    return combine_with(selection, out, options)


def combine_with(selection: StackSelection, out: str | Path, options: Options) -> NightReport:
    """Choose stacks, submit the steps of their mosaics, and report their outcome."""
    began = datetime.now(UTC)
    give_back_planes()
    raise_limit()
    folder = Path(out).expanduser().resolve()
    make_writable(folder)
    workspace = options.workspace(folder)
    make_writable(
        workspace.data_dir, "data folder", "Name another in NIRFLOW_DATA_DIR, or change its permissions."
    )
    run = Submissions(options.parameters, Choice(), workspace, [])
    with timing() as seconds:
        chosen: ChosenStacks = choose_stacks(selection, options.bands, workspace)
        for one in gathered_left_out(chosen.left_out):
            logger.info("Left out, %s: %s. %s", one.name, one.reason, one.remedy)
        for group in chosen.sets:
            submit_mosaic(run, group)
        products, failures = outcomes_of(run.tasks)
    report = NightReport(
        products=tuple(products),
        left_out=chosen.left_out,
        failures=tuple(failures),
        space=max(
            (one.space for one in failures if one.space is not None), key=lambda one: one.needed, default=None
        ),
        out=folder,
        started=began,
        seconds=(datetime.now(UTC) - began).total_seconds(),
        step_seconds={name: round(value, 3) for name, value in sorted(seconds.items())},
        flow_run=str(runtime.flow_run.name or ""),
        url=str(runtime.flow_run.ui_url or ""),
    )
    with best_effort("The summary in the Prefect UI"):
        publish(report, "Mosaic")
    with best_effort("Removing old scratch files"):
        limit_temporary_files(workspace)
    return report


def submit_mosaic(run: Submissions, group: MosaicSet) -> None:
    """Find the mosaic of some stacks, or submit its steps."""
    parameters = for_stacks(run.parameters, group)
    found: Any = find_mosaic.submit(group, run.parameters, run.workspace)
    run.add(MOSAIC.step, group.label, found)
    if found.result(raise_on_failure=False) is not None:
        return
    measured = {
        stack.name: allow_failure(
            run.add(
                "measure stack",
                stack.name,
                measure_stack.submit(stack, parameters.detect, run.workspace),
                minor=True,
            )
        )
        for stack in group.stacks
    }
    arranged: Any = arrange_stacks.submit(group, measured, parameters.mosaic, run.workspace)
    run.add("arrange stacks", group.label, arranged)
    run.add(
        MOSAIC.step,
        group.label,
        build_mosaic.submit(group, measured, arranged, run.parameters, run.workspace),
    )

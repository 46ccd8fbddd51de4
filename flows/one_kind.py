"""The flow that makes the products of one kind, with what they need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import Flow, flow

from flows.recipes.all_recipes import RECIPES
from flows.run.options import Options
from flows.run.report import NightReport
from flows.run.run import reduce_with
from imaging.kinds import Target, kind_of_target
from tasks.support.step_runner import step_runner


def flow_of(target: Target, description: str = "") -> Flow[..., NightReport]:
    """Return the flow for a kind of product. It takes raw frames, the output folder and options.

    Parameters
    ----------
    target
        The kind, as ``--only`` names it.
    description
        What it makes from what; default: the kind's products from the frames.
    """
    recipe = RECIPES[kind_of_target(target).name]

    @flow(
        name=target,
        flow_run_name=f"{recipe.of_flow} in {{out}}",
        task_runner=step_runner(),
        description=description or f"Make the {recipe.kind.plural} of the raw frames in ``paths``.",
    )
    def reduce_one_kind(
        paths: Sequence[str | Path], out: str | Path = "out", options: Options = Options()
    ) -> NightReport:
        return reduce_with(paths, out, options.limited_to(target), recipe.of_flow)

    return reduce_one_kind

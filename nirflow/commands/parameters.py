"""``nirflow params``: the parameters of every step, from the typed models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import UsageError

if TYPE_CHECKING:
    from nirflow.step_settings import ParameterInfo


def params(
    step: Annotated[str | None, typer.Argument(metavar="[STEP]", help="One step. Default: all.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Show the parameters of each step: default, unit, limits, meaning.

    Change one with: nirflow reduce ... --set step.parameter=value
    """
    from nirflow.step_settings import describe, did_you_mean
    from tasks.support.parameters import STEPS

    if step is not None and step not in STEPS:
        raise UsageError(f"Unknown step {step!r}.", remedy=did_you_mean(step, STEPS, "Steps"))
    chosen = {step: STEPS[step]} if step else STEPS
    described = [info for name, model in chosen.items() for info in describe(name, model)]
    print_parameters(described, json=json)


def print_parameters(described: Sequence[ParameterInfo], *, json: bool, with_step: bool = True) -> None:
    """Print parameters as a table or as JSON; their names as ``--set`` takes them."""
    from nirflow.step_settings import shown

    if json:
        print_json([asdict(info) for info in described])
        return
    rows = [
        [
            f"{info.step}.{info.name}" if with_step else info.name,
            shown(info.default) + (f" [{info.unit}]" if info.unit else ""),
            info.limits,
            info.meaning,
        ]
        for info in described
    ]
    columns = [
        Column("parameter", style="bold"), Column("default [unit]"), Column("limits", fold=True),
        Column("meaning", fold=True),
    ]  # fmt: skip
    print_table(columns, rows)

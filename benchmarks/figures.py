"""A benchmark's figures: values and their limits, as a table or as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nirflow.console.tables import Column, print_json, print_table


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes
    ----------
    part
        Benchmark that it belongs to.
    name, value, unit
        The measurement, the smallest of several runs.
    limit, goal
        The value must not exceed the limit; the goal is the desired value. None: for information only.
    note
        Further information: the ratio to another program, the values of all runs.
    detail
        Details for the JSON.
    """

    part: str
    name: str
    value: float
    unit: str
    limit: float | None = None
    goal: float | None = None
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool | None:
        """Whether the value is within its limit; None without a limit."""
        return None if self.limit is None else self.value <= self.limit


def machine() -> dict[str, Any]:
    """Return the facts about the machine needed to judge the figures: cores, load before the start, Python."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def show_figures(figures: Sequence[Figure], of: dict[str, Any], *, json: bool) -> int:
    """Print all figures, as a table or as JSON; return 1 if one is beyond its limit."""
    if json:
        print_json(as_json(figures, of))
    else:
        print_figures(figures, of)
    return int(any(figure.good is False for figure in figures))


def print_figures(figures: Sequence[Figure], of: dict[str, Any]) -> None:
    """Print one table of all figures with their limits."""
    columns = [
        Column("part", style="bold"), Column("figure"), Column("value", "right"), Column("unit"),
        Column("limit", "right"), Column("goal", "right"), Column(""), Column("note", fold=True),
    ]  # fmt: skip
    verdicts = {True: "good", False: "BEYOND", None: " "}
    rows = [
        [f.part, f.name, f"{f.value:.4g}", f.unit, f.limit, f.goal, verdicts[f.good], f.note] for f in figures
    ]
    title = (
        f"{of['cores']} cores ({of['machine']}), load {of['load']} before the start, Python {of['python']}"
    )
    print_table(columns, rows, title=title, styles=["red" if f.good is False else "" for f in figures])


def as_json(figures: Sequence[Figure], of: dict[str, Any]) -> dict[str, Any]:
    """Return the figures as JSON."""
    return {"machine": of, "figures": [asdict(figure) | {"good": figure.good} for figure in figures]}

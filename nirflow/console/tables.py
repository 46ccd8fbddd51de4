"""Tables and JSON on standard output, for a terminal or for a program reading from a pipe.

At a terminal a table has rules and colours and folds into the window. In a pipe it has neither: one row is
one line, whatever its length, so that ``grep`` and ``awk`` see complete rows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from rich import box
from rich.table import Table
from rich.text import Text

from imaging.printable import printable, printable_json
from nirflow.console.output import console


@dataclass(frozen=True)
class Column:
    """A column: its heading, alignment and style, and whether it may fold."""

    heading: str
    justify: Literal["left", "right"] = "left"
    style: str = ""
    fold: bool = False


def print_table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    styles: Sequence[str] = (),
) -> None:
    """Print a table on standard output.

    Parameters
    ----------
    columns
        The columns.
    rows
        Cells of each row; None prints as a dash, numbers in their shortest form.
    title
        A line above the table.
    styles
        Style of each row ("dim", "red"), as many as there are rows.
    """
    out = console()
    terminal = out.is_terminal
    table = Table(
        box=box.SIMPLE_HEAD if terminal else None,
        pad_edge=False, show_edge=False, header_style="bold", padding=(0, 2 if not terminal else 1, 0, 0),
        show_header=any(column.heading for column in columns),
    )  # fmt: skip
    for column in columns:
        table.add_column(
            Text(column.heading), justify=column.justify, style=column.style if terminal else "",
            overflow="fold", no_wrap=not column.fold,
        )  # fmt: skip
    for number, row in enumerate(rows):
        style = styles[number] if number < len(styles) else ""
        table.add_row(*(Text(cell(value)) for value in row), style=style)
    if title:
        out.print(Text(printable(title), style="bold"))
    if terminal:
        out.print(table)
        return
    with out.capture() as plain:
        out.print(table)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in plain.get().splitlines())


def cell(value: object) -> str:
    """Return the text of a table's cell."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case _:
            return printable(str(value))


def print_json(value: Any, *, one_line: bool = False) -> None:
    """Print ``value`` as JSON on standard output: models, dates, paths and sets included; at once if on one line.

    The values are exact, including unprintable characters, which are written with JSON's own escapes.
    """
    text = json.dumps(
        value, default=_plain, indent=None if one_line else 2, ensure_ascii=False, allow_nan=False
    )
    sys.stdout.write(printable_json(text) + "\n")
    if one_line:
        sys.stdout.flush()


def _plain(value: object) -> object:
    if hasattr(value, "model_dump"):  # a pydantic model; importing pydantic to check takes 60 ms
        return value.model_dump(mode="json")
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (Path, UUID)):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from imaging.parameters import StepParameters
from nirflow.console.tables import Column, cell, print_json, print_table


def test_in_a_pipe_a_row_is_one_line_without_rules_colours_or_trailing_blanks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = [Column("name", style="red"), Column("meaning", fold=True), Column("n", "right")]
    print_table(columns, [["a", "term " * 60, 1.5], ["[bold]b", None, True]], styles=["green"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["a", *["term"] * 60, "1.5"]
    assert lines[2].split() == ["[bold]b", "-", "yes"]
    assert all(line == line.rstrip() and "\x1b" not in line for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        (0, "0"),
        (False, "no"),
        (1 / 3, "0.333333"),
        (120.0, "120"),
        (datetime(2013, 11, 21, 2, 52, 48, tzinfo=UTC), "2013-11-21 02:52:48"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text


def test_json_holds_models_dates_sets_and_paths_and_refuses_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(
        {
            "m": StepParameters(),
            "d": date(2013, 11, 21),
            "s": frozenset({"b", "a"}),
            "p": Path("x"),
            "t": (2048, 2048),
        }
    )
    reported = json.loads(capsys.readouterr().out)
    assert reported == {"m": {}, "d": "2013-11-21", "s": ["a", "b"], "p": "x", "t": [2048, 2048]}
    with pytest.raises(ValueError, match="JSON"):
        print_json(float("nan"))
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        print_json(object())

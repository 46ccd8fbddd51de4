"""A problem of many frames is one line in the report of a reduction and in that of an inspection."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.run.report import NightReport
from imaging.io.examine import Examination
from nirflow.commands.inspect import _print_problems
from nirflow.console.reduction_report import print_report
from nirflow.survey import Group
from tasks.support.references import LeftOut, Note, gathered_left_out

NAMES = [f"S20131121S{n:04}.fits" for n in range(39)]
REASON = "the header does not describe its data (LNRS = 5, expected 1, 4 or 8)"


def test_the_report_of_a_reduction(capsys: pytest.CaptureFixture[str]) -> None:
    report = NightReport(
        left_out=tuple(LeftOut(name=name, reason=REASON, remedy="Leave it out.") for name in NAMES),
        notes=tuple(Note(name=name, text="LNRS is corrected") for name in NAMES),
        out=Path("out"), started=datetime(2026, 1, 1, tzinfo=UTC), seconds=1,
    )  # fmt: skip
    print_report(report)
    lines = capsys.readouterr().out.splitlines()
    (left_out,) = [line for line in lines if line.startswith("Left out")]
    assert left_out.startswith("Left out, 39 files (S20131121S0000.fits, ")
    assert left_out.endswith(f"and 33 more): {REASON}. Leave it out.")
    (note,) = [line for line in lines if line.startswith("Note")]
    assert note.endswith("and 33 more): LNRS is corrected.")


def test_an_inspection(capsys: pytest.CaptureFixture[str]) -> None:
    frames = [Examination(Path(name), "faulty", REASON, "Leave it out.") for name in NAMES]
    _print_problems([*frames, Examination(Path("x.fits"), "faulty", "empty", "Fetch it again.")], [])
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines[0].startswith("39 files (S20131121S0000.fits")
    assert lines[1] == "x.fits: empty. Fetch it again."
    assert lines[2] == "40 files: 0 usable, 0 not used, 40 broken."


def test_expected_and_unexpected_losses_stay_apart() -> None:
    losses = [LeftOut(name=name, reason="r", expected=n > 1) for n, name in enumerate("abcd")]
    assert [(one.name, one.expected) for one in gathered_left_out(losses)] == [
        ("2 files (a, b)", False), ("2 files (c, d)", True)
    ]  # fmt: skip


def test_groups_are_not_called_files(capsys: pytest.CaptureFixture[str]) -> None:
    labels = ("science Y FIELD-0", "science Y FIELD-1", "science J FIELD-0")
    _print_problems([], [Group(label, (), ("the sky is taken from other frames",)) for label in labels])
    lines = capsys.readouterr().out.splitlines()
    assert f"3 groups ({', '.join(labels)}): the sky is taken from other frames." in lines
    sets = [LeftOut(name=label, reason="too few darks", noun="group") for label in labels]
    report = NightReport(
        left_out=tuple(sets),
        notes=(
            *(Note(name=label, text="n", noun="group") for label in labels),
            *(Note(name=name, text="n") for name in ("a.fits", "b.fits")),
        ),
        out=Path("out"), started=datetime(2026, 1, 1, tzinfo=UTC), seconds=1,
    )  # fmt: skip
    print_report(report)
    lines = capsys.readouterr().out.splitlines()
    named = f"3 groups ({', '.join(labels)})"
    assert {
        f"Left out, {named}: too few darks.",
        f"Note, {named}: n.",
        "Note, 2 files (a.fits, b.fits): n.",
    } <= {*lines}

"""The table of situations is consistent, and its verdicts follow from the checks."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

from benchmarks.faults import edit
from benchmarks.faults.__main__ import main
from benchmarks.faults.situation import Check, verdict_of
from benchmarks.faults.table import SITUATIONS
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night

PARTS = {"headers", "times", "files", "frames", "machines", "software", "store"}


def test_every_situation_has_its_own_name_and_can_be_judged() -> None:
    assert {n for n, times in Counter(s.name for s in SITUATIONS).items() if times > 1} == set()
    assert {s.part for s in SITUATIONS} == PARTS
    assert [s.name for s in SITUATIONS if (s.trial is None) == (s.judge is None)] == []


def test_the_members_of_a_group_follow_each_other() -> None:
    groups = [name for name, _ in groupby(SITUATIONS, key=lambda s: s.group) if name]
    assert len(groups) == len(set(groups)) > 1


def test_the_gravest_failure_is_the_evidence() -> None:
    good, minor, grave = Check(True, "good"), Check(False, "minor", grave=False), Check(False, "grave")
    assert verdict_of([good]).standing == "holds"
    assert (verdict_of([good, minor]).standing, verdict_of([good, minor]).evidence) == ("half", "minor")
    assert (verdict_of([minor, grave, good]).standing, verdict_of([minor, grave]).evidence) == (
        "broken",
        "grave",
    )
    assert verdict_of([]).standing == "broken"


def test_the_list_names_every_situation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert [s.name for s in SITUATIONS if s.name not in shown] == []


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nothing-of-the-kind"])
    assert "nothing-of-the-kind" in capsys.readouterr().err


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the raw frames of the night, as small as possible."""
    return simulate_night(tmp_path_factory.mktemp("night") / "night", NightParameters(size=128)).folder.parent


def contents(folder: Path) -> dict[str, tuple[bool, bytes]]:
    """Return the files of a folder: whether they are links, and their bytes."""
    return {path.name: (path.is_symlink(), path.read_bytes()) for path in folder.iterdir() if path.is_file()}


NIGHTLY = [s for s in SITUATIONS if s.disturb is not None]
#: Nothing is done to the folder: the file is replaced after the first reduction.
LATER = {"same-name-size-and-date"}


@pytest.mark.parametrize("situation", NIGHTLY, ids=lambda s: s.name)
def test_each_situation_of_a_night_changes_its_files(situation, night: Path, tmp_path: Path) -> None:
    folder = tmp_path / "night"
    folder.mkdir()
    before = contents(night)
    for name in before:
        (folder / name).hardlink_to(night / name)
    situation.disturb(folder)
    assert (contents(folder) != before) == (situation.name not in LATER)
    assert contents(night) == before


def test_a_file_read_and_written_again_is_the_same(night: Path) -> None:
    path = next(night.glob("*.fits"))
    assert edit.load(path).content() == path.read_bytes()

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hostile import harmful
from rich.console import Console
from typer.testing import Result

from calib_store.rules.rules_toml import read_rules, shipped_rules, shipped_text

Run = Callable[..., Result]
Add = Callable[..., dict[str, Any]]
#: Version of the rules that nirflow comes with.
SHIPPED = shipped_rules().version


@pytest.fixture
def science(tmp_path: Path, frame_writer: Callable[..., Path]) -> Path:
    return frame_writer(tmp_path / "S20131121S0075.fits", shape=(1, 40, 40))


def test_match_a_file(nirflow: Run, added: Add, science: Path) -> None:
    dark = added()
    result = nirflow("cal", "match", science)
    assert result.exit_code == 4  # a mask and a flat are missing
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1][:4] == ["dark", dark["name"], dark["id"][:8], "candidate"]
    assert [line[0] for line in lines[2:]] == ["bpm", "flat", "distortion"]
    assert nirflow("cal", "match", science, "--kind", "dark").exit_code == 0
    assert nirflow("cal", "match", science, "--kind", "flat").exit_code == 3
    (reported,) = json.loads(nirflow("cal", "match", science, "--kind", "dark", "--json").stdout)
    assert (reported["product"]["id"], reported["rules"]) == (dark["id"], SHIPPED)


def test_match_as_of_a_time(nirflow: Run, added: Add, science: Path) -> None:
    before = datetime.now(UTC).isoformat()
    time.sleep(0.01)
    added()
    assert nirflow("cal", "match", science, "--kind", "dark", "--as-of", before).exit_code == 3
    assert nirflow("cal", "match", science, "--kind", "dark", "--as-of", "2099-01-01").exit_code == 0
    wrong = nirflow("cal", "match", science, "--as-of", "last week")
    assert wrong.exit_code == 2
    assert "--as-of 'last week' is not a time" in wrong.stderr


def test_explain_shows_the_first_rule_that_fails_with_both_values(
    nirflow: Run, added: Add, science: Path
) -> None:
    good, short = added("S20131120S0115"), added("S20131120S0200", EXPTIME=60.0)
    far = added("S20130401S0001", DATE_OBS="2013-04-01")
    result = nirflow("cal", "explain", science, "--kind", "dark")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"dark for S20131121S0075.fits: {good['name']} ({good['id'][:8]})"
    assert f"by the rules {SHIPPED}" in lines[1]
    order = " ".join(" ".join(lines[2:]).split())
    assert order.startswith("best first: made of nothing that was rejected; certified for the time;")
    first = next(number for number, line in enumerate(lines) if line.startswith("taken  "))
    reported = {line.split()[2]: line for line in lines[first:]}
    assert reported[good["id"][:8]].startswith("taken")
    assert reported[short["id"][:8]].endswith("exposure 60 s, frame 120 s")
    assert reported[far["id"][:8]].endswith("234.0 days before the frame, at most 90")
    assert list(reported) == [good["id"][:8], far["id"][:8], short["id"][:8]]
    (json_,) = json.loads(nirflow("cal", "explain", science, "--kind", "dark", "--json").stdout)
    assert len(json_["candidates"]) == 3
    limited = json.loads(
        nirflow("cal", "explain", science, "--kind", "dark", "--json", "--limit", "1").stdout
    )
    assert [one["product"] for one in limited[0]["candidates"]] == [good["id"]]
    none = nirflow("cal", "explain", science, "--kind", "flat")
    assert none.exit_code == 3
    assert "The store has no flat at all." in none.stdout


def test_standard_fields_have_a_rule_and_an_order_of_their_own(
    nirflow: Run, added: Add, science: Path
) -> None:
    added()
    result = nirflow("cal", "explain", science, "--kind", "standard")
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert lines[0] == "standard for S20131121S0075.fits: none"
    assert lines[2:] == ["best first: nearest in time", "The store has no standard at all."]
    (rule,) = [line for line in nirflow("cal", "rules").stdout.splitlines() if line.startswith("standard ")]
    assert " 1 day " in rule


def test_explanations_fit_into_a_hundred_columns(
    nirflow: Run, added: Add, science: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal of that width no line is longer, and no text is lost."""
    import sys

    added("S20131120S0115")
    added("S20130401S0001", DATE_OBS="2013-04-01", DETID="a detector with a very long name")
    monkeypatch.setattr(
        "nirflow.console.tables.console",
        lambda *, stderr=False: Console(file=sys.stdout, width=100, force_terminal=True, color_system=None),
    )
    result = nirflow("cal", "explain", science, "--kind", "dark")
    lines = result.stdout.splitlines()
    assert max(len(line) for line in lines) <= 100
    assert "detector a detector with a very long name," in " ".join(result.stdout.split())


@pytest.mark.usefixtures("own_store")
def test_missing_frames(nirflow: Run, tmp_path: Path) -> None:
    (tmp_path / "text.fits").write_text("no FITS")
    for name in ("S1.fits", tmp_path / "text.fits"):
        result = nirflow("cal", "match", name)
        assert (result.exit_code, result.stdout) == (2, ""), result.stderr


def test_the_calibrations_of_a_frames_reduction(
    nirflow: Run, own_store: None, frame_writer: Callable[..., Path], master_dark: Path, tmp_path: Path
) -> None:
    dark = frame_writer(tmp_path / "S1.fits", OBSTYPE="DARK", FILTER2="DK_G0807")
    for command in ("match", "explain"):
        reported = nirflow("cal", command, dark)
        assert (reported.exit_code, reported.stdout) == (0, "S1.fits is a dark: it needs no calibration.\n")
        assert nirflow("cal", command, dark, "--json").stdout == "[]\n"
    flat = frame_writer(tmp_path / "S2.fits", OBSTYPE="FLAT", OBJECT="GCALflat")
    lines = nirflow("cal", "match", flat).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["bpm"]
    for name, problem in ((master_dark, "is a product, not a raw frame"), (tmp_path, "is a folder")):
        refused = nirflow("cal", "match", name)
        assert refused.exit_code == 2
        assert problem in refused.stderr
    early = nirflow("cal", "explain", flat, "--kind", "bpm", "--as-of", "2013-01-01")
    assert "The store had no bpm at all then." in early.stdout


@pytest.mark.usefixtures("own_store")
def test_rules_are_shown_and_printed(nirflow: Run) -> None:
    result = nirflow("cal", "rules")
    assert result.stdout.startswith(f"Rules {SHIPPED}\n")
    assert "exposure_time +-0.01" in result.stdout
    assert "came with nirflow" in result.stdout
    assert nirflow("cal", "rules", "--toml").stdout == shipped_text()
    reported = json.loads(nirflow("cal", "rules", "--json").stdout)
    assert reported["rules"]["version"] == SHIPPED
    unknown = nirflow("cal", "rules", "--version", "x")
    assert unknown.exit_code == 1
    assert "never had the rules 'x'" in unknown.stderr


def test_names_authors_and_reasons_of_rules_are_shown_literally(
    nirflow: Run, own_store: None, owner_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", owner_url)
    table = tmp_path / "odd\x1b[1m.toml"
    name = '"dark\\u001b]0;owned\\u0007\\nINJECTED\\u202E\\u009b"'
    match = '["instrument", "detector", "binning", "exposure_time", "read_pairs", "coadds", "section"]'
    table.write_text(f'version = "odd"\norder = 2\n[{name}]\nkind = "dark"\nmatch = {match}\n')
    done = nirflow(
        "cal", "rules", "--set", table, "--author", "Eve\x1b[2J", "--reason", "why\nINJECTED [red]"
    )
    assert done.exit_code == 0, done.stderr
    for shown in (r"dark\x1b]0;owned\x07\nINJECTED\u202e\u009b", r"Eve\x1b[2J", r"why\nINJECTED [red]"):
        assert shown in done.stdout
    toml = nirflow("cal", "rules", "--toml").stdout
    assert read_rules(toml, "again") == read_rules(table.read_text(), "mine")
    reported = nirflow("cal", "rules", "--json").stdout
    assert json.loads(reported)["history"][0]["author"] == "Eve\x1b[2J"
    table.write_text('version = "\x7f')
    wrong = nirflow("cal", "rules", "--set", table, "--reason", "x")
    assert wrong.exit_code == 1
    for text in (done.output, toml, reported, wrong.output):
        assert harmful(text) == set()
        assert not any(line.startswith("INJECTED") for line in text.splitlines())


def test_rules_are_changed_by_a_table(
    nirflow: Run, own_store: None, owner_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(shipped_text().replace(SHIPPED, "mine-1").replace("window_days = 90", "window_days = 30"))
    refused = nirflow("cal", "rules", "--set", mine, "--reason", "drifts")
    assert refused.exit_code == 1
    assert "permission denied" in refused.stderr
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", owner_url)
    assert nirflow("cal", "rules", "--set", mine).exit_code == 2
    assert nirflow("cal", "rules", "--set", tmp_path / "none.toml", "--reason", "x").exit_code == 2
    done = nirflow("cal", "rules", "--set", mine, "--reason", "the dark drifts", "--author", "Ana")
    assert done.exit_code == 0
    assert "Now using mine-1" in done.stderr
    assert "30 days" in done.stdout
    assert "the dark drifts" in done.stdout
    assert "90 days" in nirflow("cal", "rules", "--version", SHIPPED).stdout
    # The next change begins with this one.
    again = nirflow("cal", "rules", "--toml").stdout
    assert read_rules(again, "again") == read_rules(mine.read_text(), "mine")
    assert again.startswith("# Which calibration belongs to which frame")
    assert nirflow("cal", "rules", "--toml", "--version", SHIPPED).stdout == shipped_text()
    assert "Already using" in nirflow("cal", "rules", "--set", mine, "--reason", "x").stderr
    mine.write_text("version = 3")
    wrong = nirflow("cal", "rules", "--set", mine, "--reason", "x")
    assert wrong.exit_code == 1
    assert "mine.toml: version:" in wrong.stderr

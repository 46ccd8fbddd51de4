"""``nirflow catalogue``: what a catalogue has in a field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from catalogue_files import CENTRE, twomass, written

Run = Callable[..., Any]
FIELD = ("--ra", str(CENTRE[0]), "--dec", str(CENTRE[1]), "--epoch", "2013.9")


def test_bands_errors_and_what_is_left_out(nirflow: Run, tmp_path: Path) -> None:
    path = written(twomass(ph_qual=["UAA"] * 3 + ["AAA"] * 17), tmp_path / "stars.fits")
    result = nirflow("catalogue", path, *FIELD)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0].startswith("2MASS: 20 stars at 2013.90, median error of a position 120 mas")
    assert "J 17 12.63 16.00 0.030 2MASS, Vega" in lines
    assert "Left out, J magnitudes with a flag: 3" in lines
    assert any(line.startswith("Note: 20 of 20 stars have no proper motion") for line in lines)


def test_json_and_parameters(nirflow: Run, tmp_path: Path) -> None:
    path = written(twomass(), tmp_path / "stars.fits")
    found = json.loads(nirflow("catalogue", path, *FIELD, "--set", "position_error=10", "--json").stdout)
    assert (found["stars"], found["origin"]) == (20, str(path))
    assert found["position_error"] == pytest.approx(97.8, abs=0.1)
    assert found["bands"]["Ks"]["system"] == "2MASS, Vega"


def test_a_remedy_in_a_message_works_as_it_is_written(nirflow: Run, tmp_path: Path) -> None:
    path = written(twomass(), tmp_path / "stars.fits")
    bare, full = (
        nirflow("catalogue", path, *FIELD, "--set", f"{prefix}position_error=10", "--json").stdout
        for prefix in ("", "catalogue.")
    )
    assert json.loads(full)["position_error"] == json.loads(bare)["position_error"]


def test_a_catalogue_that_does_not_fit_is_an_error(nirflow: Run, tmp_path: Path) -> None:
    path = written(twomass(), tmp_path / "stars.fits")
    result = nirflow("catalogue", path, "--ra", "10", "--dec", "10", "--epoch", "2013.9")
    assert result.exit_code == 1
    assert "its positions cover longitude 63" in " ".join(result.stderr.split())


def test_without_a_catalogue_it_names_what_is_missing(nirflow: Run, tmp_path: Path) -> None:
    result = nirflow("catalogue", *FIELD)
    assert result.exit_code == 2
    assert "No catalogue is named" in result.stderr
    missing = nirflow("catalogue", tmp_path / "nowhere.fits", *FIELD)
    assert missing.exit_code == 2
    assert "no catalogue" in missing.stderr

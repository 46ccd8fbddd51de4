"""``nirflow instruments``: the known instruments, a table checked on files, and one started from a file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from imaging.instruments import catalogue

Nirflow = Callable[..., Result]
Writer = Callable[..., Path]
MYCAM = Path(__file__).parents[2] / "imaging" / "instruments" / "mycam.toml"
CARDS = {
    "INSTRUME": "MYCAM", "IMAGETYP": "OBJECT", "DATE": "2024-05-01", "UT": "03:00:00", "ITIME": 10.0,
    "CAMERA": "wide", "FILTER": "J", "OBJECT": "M1",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_trial(monkeypatch: pytest.MonkeyPatch):
    """Remove tables registered by a command after the test."""
    yield
    catalogue._trial = None
    catalogue.forget()


def test_the_tables_are_listed(nirflow: Nirflow) -> None:
    first, second = json.loads(nirflow("instruments", "--json").stdout)
    assert (first["name"], first["title"], first["origin"]) == ("F2", "FLAMINGOS-2", "nirflow")
    assert (second["name"], second["origin"]) == ("NIRI", "nirflow")
    assert "FLAMINGOS-2" in nirflow("instruments").stdout


def test_a_table_of_the_settings_is_listed_and_reads_frames(
    nirflow: Nirflow, tmp_path: Path, frame_writer: Writer
) -> None:
    frame = frame_writer(tmp_path / "m1.fits", shape=(512, 1024), **CARDS)
    config = tmp_path / "nirflow.toml"
    config.write_text(f'instruments = ["{MYCAM}"]\n')

    def run(*expected: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nirflow", *map(str, expected)]
        environment = {"NIRFLOW_CONFIG": str(config), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    listed = json.loads(run("instruments", "--json").stdout)
    assert [(one["name"], one["origin"]) for one in listed] == [
        ("F2", "nirflow"), ("NIRI", "nirflow"), ("MYCAM", "settings"),
    ]  # fmt: skip
    selected = run("select", frame, "--where", "cam == 'wide' and camera == 'wide' and well < -0.5")
    assert selected.stdout.strip() == str(frame), selected.stderr
    config.write_text('instruments = ["mycam.toml"]\n')
    refused = run("instruments")
    assert refused.returncode != 0
    assert "relative path" in refused.stderr
    config.write_text(f'instruments = ["{tmp_path}/none.toml"]\n')
    assert "cannot be read" in run("instruments").stderr


def test_each_fact_is_shown_with_its_keyword(nirflow: Nirflow, tmp_path: Path, frame_writer: Writer) -> None:
    frame_writer(tmp_path / "m1.fits", shape=(512, 1024), **CARDS)
    frame_writer(tmp_path / "m2.fits", shape=(512, 1024), **CARDS | {"NCOADD": 0, "UT": "03:01:00"})
    dark = CARDS | {"IMAGETYP": "DARK", "UT": "03:02:00", "ITIME": 10.004}  # within the table's tolerance
    frame_writer(tmp_path / "m3.fits", shape=(512, 1024), **dark)
    result = nirflow("instruments", "check", MYCAM, tmp_path, "--json")
    assert result.exit_code == 4
    reported = json.loads(result.stdout)
    first, second, _ = ({one["fact"]: one for one in facts} for facts in reported["files"].values())
    assert (first["camera"]["value"], first["camera"]["keywords"]) == ("wide", "CAMERA")
    assert first["coadds"]["keywords"] == "default; NCOADD is missing"
    assert (first["kind"]["value"], first["pixel_scale"]["value"]) == ("object", 0.1)
    assert "whole number from 1 to 100" in second["coadds"]["problem"]
    assert reported["possible"] == [
        "dark of 10.004 s: 1 frame",
        "stack of 1 frame in J, without a flat among these files",
    ]
    shown = nirflow("instruments", "check", MYCAM, tmp_path / "m1.fits")
    assert shown.exit_code == 0
    assert "1 file, 0 with a problem." in shown.stdout
    assert "without a dark and a flat" in shown.stdout


def test_a_keyword_that_some_files_lack_is_summed_up(
    nirflow: Nirflow, tmp_path: Path, frame_writer: Writer
) -> None:
    for n in range(3):
        cards = {key: value for key, value in CARDS.items() if n or key != "CAMERA"} | {"UT": f"03:0{n}:00"}
        frame_writer(tmp_path / f"m{n}.fits", shape=(512, 1024), **cards)
    shown = nirflow("instruments", "check", MYCAM, tmp_path)
    assert shown.exit_code == 4
    text = " ".join(shown.stdout.split())
    line = 1 + MYCAM.read_text().splitlines().index(
        next(row for row in MYCAM.read_text().splitlines() if row.startswith("camera"))
    )
    assert (
        f"mycam.toml, line {line}): keyword is missing (CAMERA = None, expected a text) in 1 of 3 files"
        in text
    )
    assert "(m0.fits): give it a default, or name another keyword" in text
    assert "3 files, 1 with a problem." in text


def niri(**changes: object) -> dict[str, object]:
    """Return the cards of a frame of NIRI; those of the image's header as well, which the writer shares."""
    return {
        "INSTRUME": "NIRI", "OBSTYPE": "OBJECT", "OBSCLASS": "science", "OBJECT": "NGC 1", "FILTER1": "J_G0202",
        "FILTER2": "open", "FILTER3": "pupil38_G5207", "CAMERA": "f6", "FPMASK": "f6-cam_G5208", "EXPTIME": 30.001,
        "COADDS": 2, "LNRS": 1, "NDAVGS": 16, "A_VDDUC": -3.49, "A_VDET": -2.91, "DATE-OBS": "2008-10-02",
        "UT": "10:00:01.0", "UTSTART": None, "TIME-OBS": "10:00:01.5", "POFFSET": None, "QOFFSET": None,
        "RAOFFSET": 0.0, "DECOFFSE": -4.0, "PA": 0.0, "DATALAB": "GN-2008B-Q-1-5-004",
    } | changes  # fmt: skip


def test_frames_of_niri_are_checked(nirflow: Nirflow, tmp_path: Path, frame_writer: Writer) -> None:
    frame_writer(tmp_path / "n1.fits", shape=(1024, 1024), **niri())
    frame_writer(
        tmp_path / "n2.fits", shape=(1024, 1024), **niri(DATALAB="GN-2008B-Q-1-5-001", UT="10:02:00")
    )
    frame_writer(tmp_path / "n3.fits", shape=(1024, 1024), **niri(LNRS=4, UT="10:03:00"))
    result = nirflow("instruments", "check", "NIRI", tmp_path, "--json")
    assert result.exit_code == 0, result.stdout
    reported = json.loads(result.stdout)
    first, _, third = ({one["fact"]: one for one in facts} for facts in reported["files"].values())
    assert first["well_depth"]["keywords"] == "A_VDDUC - A_VDET"
    assert first["readout_mode"]["keywords"] == "LNRS, NDAVGS"
    assert first["qoffset"]["value"] == 4.0
    assert "other keywords" in first["qoffset"]["keywords"]
    assert first["zero_point"]["value"] == 26.69
    assert first["started"]["keywords"] == "DATE-OBS + UT"
    assert "no known read mode" in str([one["value"] for one in reported["files"][str(tmp_path / "n3.fits")]])
    assert third["readout_mode"]["value"] == "unknown"
    assert any("n2.fits: the first frame of an observation" in line for line in reported["possible"])
    table = tmp_path / "new.toml"
    assert nirflow("instruments", "new", "--from", tmp_path / "n1.fits", "--out", table).exit_code == 0
    assert 'time = ["UT", "TIME-OBS"]' in table.read_text()
    assert 'camera = { keywords = ["CAMERA"]' in table.read_text()
    other = nirflow("instruments", "check", "F2", tmp_path / "n1.fits")
    assert other.exit_code == 4
    assert "the frame is not one of F2" in " ".join(other.stdout.split())


def test_a_known_instrument_is_checked_by_its_name(
    nirflow: Nirflow, tmp_path: Path, frame_writer: Writer
) -> None:
    frame = frame_writer(tmp_path / "a.fits")
    assert nirflow("instruments", "check", "F2", frame).exit_code == 0
    frame_writer(tmp_path / "b.fits", LNRS=5, NREADS=5)
    wrong = nirflow("instruments", "check", "F2", tmp_path / "b.fits")
    assert wrong.exit_code == 4
    assert "expected one of 1, 4, 6, 8" in " ".join(wrong.stdout.split())
    unknown = nirflow("instruments", "check", "F3", frame)
    assert unknown.exit_code == 1
    assert "there are F2" in unknown.stderr


def test_flats_that_cannot_be_used_are_reported(
    nirflow: Nirflow, tmp_path: Path, frame_writer: Writer
) -> None:
    flat = CARDS | {"IMAGETYP": "FLAT"}
    frame_writer(tmp_path / "on.fits", shape=(512, 1024), **flat | {"LAMP": "1"})
    alone = nirflow("instruments", "check", MYCAM, tmp_path / "on.fits", "--json")
    assert alone.exit_code == 0
    assert json.loads(alone.stdout)["possible"] == ["no flat in J: 1 frame without lamp-offs of 10 s in J"]
    frame_writer(tmp_path / "unknown.fits", shape=(512, 1024), **flat | {"UT": "03:01:00"})
    unknown = nirflow("instruments", "check", MYCAM, tmp_path / "unknown.fits")
    assert unknown.exit_code == 4
    assert "no [[lamp]] of the table fits" in " ".join(unknown.stdout.split())


def test_a_first_table_is_written_once(nirflow: Nirflow, tmp_path: Path, frame_writer: Writer) -> None:
    frame = frame_writer(tmp_path / "m1.fits", shape=(512, 1024), **CARDS)
    table = tmp_path / "new.toml"
    done = nirflow("instruments", "new", "--from", frame, "--out", table)
    assert done.exit_code == 0
    assert f"nirflow instruments check {table} {frame}" in " ".join(done.stdout.split())
    assert 'name = "MYCAM"' in table.read_text()
    assert "shape = [512, 1024]" in table.read_text()
    assert "# [[lamp]]" in table.read_text()
    assert 'reads = "averaged"   # GUESS' in table.read_text()
    assert nirflow("instruments", "new", "--from", frame, "--out", table).exit_code == 2
    assert table.read_text().rstrip("\n") == nirflow("instruments", "new", "--from", frame).stdout.rstrip(
        "\n"
    )
    incomplete = nirflow("instruments", "check", table, frame)
    assert incomplete.exit_code == 1
    assert "greater than 0" in incomplete.stderr


def test_a_problem_is_shown_where_the_table_has_its_rule(
    nirflow: Nirflow, tmp_path: Path, frame_writer: Writer
) -> None:
    flat = CARDS | {"IMAGETYP": "FLAT", "LAMP": "2"}
    frame_writer(tmp_path / "on.fits", shape=(512, 1024), **flat)
    found = nirflow("instruments", "check", MYCAM, tmp_path / "on.fits")
    line = 1 + MYCAM.read_text().splitlines().index("[[lamp]]")
    assert f"mycam.toml, line {line}): no [[lamp]] of the table fits" in " ".join(found.stdout.split())


def test_frames_that_do_not_differ_in_their_offsets_are_pointed_out(
    nirflow: Nirflow, tmp_path: Path, frame_writer: Writer
) -> None:
    for n in range(3):
        frame_writer(tmp_path / f"m{n}.fits", shape=(512, 1024), **CARDS | {"UT": f"03:0{n}:00"})
    found = nirflow("instruments", "check", MYCAM, tmp_path, "--json")
    (stack,) = json.loads(found.stdout)["possible"]
    assert stack.startswith(
        "stack of 3 frames in J, without a dark and a flat among these files; all at the same offsets"
    )


def test_defaults_of_a_table_that_are_invalid_are_refused(
    nirflow: Nirflow, tmp_path: Path, frame_writer: Writer
) -> None:
    frame = frame_writer(tmp_path / "m1.fits", shape=(512, 1024), **CARDS)
    table = tmp_path / "mine.toml"
    table.write_text(MYCAM.read_text() + "\n[defaults.sky]\nleast = 1.0\n")
    found = nirflow("instruments", "check", table, frame)
    line = len(table.read_text().splitlines())
    assert found.exit_code == 1
    assert f"line {line}: defaults.sky.least: Extra inputs are not permitted" in " ".join(
        found.stderr.split()
    )

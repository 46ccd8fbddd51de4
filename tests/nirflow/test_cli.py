from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]
Writer = Callable[..., Path]

#: Modules that are slow to import and must not delay help and usage errors.
HEAVY = {"numpy", "astropy", "numba", "scipy", "sqlalchemy", "prefect", "pydantic", "ccdproc", "sep"}


def test_help_lists_the_commands_and_the_exit_codes(nirflow: Run) -> None:
    result = nirflow("--help")
    assert result.exit_code == 0
    expected = ["demo", "simulate", "inspect", "select", "reduce", "params", "cal", "server"]
    assert all(f" {term} " in result.output for term in expected)
    assert "2 incorrect usage" in " ".join(result.output.split())


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, nirflow.cli; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(loaded.split())
    assert "typer" in loaded.split()


def test_a_closed_pipe_ends_the_output_silently() -> None:
    """As with ``| head``: no more output, and no message of Python about the closed pipe."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "nirflow", "params"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""


def test_version(nirflow: Run) -> None:
    from nirflow import __version__

    assert nirflow("--version").output == f"nirflow {__version__}\n"


def test_inspect_shows_frames_groups_and_a_summary(nirflow: Run, night: Path) -> None:
    result = nirflow("inspect", night)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "S20131120S0115 dark - 120 s 8 - 2013-11-20 04:48 - 1" in lines
    assert "S20131129S0320 flat Y 20 s 1 on 2013-11-29 02:52 - 4" in lines
    assert "S20131121S0077 object Y 120 s 8 - 2013-11-21 02:52 +20.0 +0.0 5" in lines
    assert "5 science Y 120 s WISE J0413 (dither) 3 S20131121S0075 - 0077 IMAGE" in lines
    assert "8 files: 8 usable, 0 not used, 0 broken." in result.stdout
    assert max(len(line) for line in result.stdout.splitlines() if line.startswith("S2013")) <= 100


def test_inspect_shows_broken_and_unused_files(nirflow: Run, night: Path, frame_writer: Writer) -> None:
    (night / "S20131121S0099.fits").write_bytes(b"")
    frame_writer(night / "S20131121S0098.fits", OBSCLASS="acq")
    result = nirflow("inspect", night)
    assert result.exit_code == 4
    assert "S20131121S0099.fits: the file is empty (0 bytes). Fetch the file again." in result.stdout
    assert "S20131121S0098.fits: not used: an acquisition frame" in result.stdout
    assert "10 files: 8 usable, 1 not used, 1 broken." in result.stdout


def test_an_acquisition_frame_alone_is_not_a_failure(
    nirflow: Run, tmp_path: Path, frame_writer: Writer
) -> None:
    assert nirflow("inspect", frame_writer(tmp_path / "S1.fits", OBSCLASS="acq")).exit_code == 0


def test_inspect_json(nirflow: Run, night: Path) -> None:
    (night / "broken.fits").write_bytes(b"no")
    result = nirflow("inspect", night, "--json")
    assert result.exit_code == 4
    reported = json.loads(result.stdout)
    frames = {Path(frame["path"]).name: frame for frame in reported["frames"]}
    dark = frames["S20131120S0116.fits.bz2"]
    assert (dark["facts"]["exposure_time"], dark["group"], dark["problem"]) == (120.0, "dark 120 s", None)
    assert "DARK" in dark["facts"]["tags"]
    assert frames["broken.fits"]["facts"] is None
    assert "not a FITS file" in frames["broken.fits"]["problem"]
    assert [len(group["frames"]) for group in reported["groups"]] == [2, 1, 1, 1, 3]


def test_inspect_pixels_finds_a_dead_readout(nirflow: Run, night: Path) -> None:
    result = nirflow("inspect", night / "S20131120S0115.fits", "--pixels")
    assert result.exit_code == 4
    assert "all pixels have the value 0" in result.stdout


@pytest.mark.parametrize("command", ["inspect", "select"])
def test_a_folder_without_fits_files(nirflow: Run, tmp_path: Path, command: str) -> None:
    result = nirflow(command, tmp_path)
    assert result.exit_code == 3
    assert "No frame in" in result.stderr
    assert "--recursive" in result.stderr


@pytest.mark.parametrize(
    ("options", "roots"),
    [
        (["--tags", "DARK"], ["20S0115", "20S0116", "21S0369"]),
        (["--tags", "DARK", "--where", "exposure_time == 120 and read_pairs == 8"], ["20S0115", "20S0116"]),
        (["--tags", "flat,raw"], ["26S1111", "29S0320"]),
        (["--tags", "FLAT", "--not-tags", "LAMPON"], ["26S1111"]),
        (["--where", "'LAMPON' in tags or started > '2013-11-27'"], ["29S0320"]),
        (["--where", "kind == 'object' and poffset < 0"], ["21S0075"]),
        (["--where", "exptime in [2, 20] and night == '2013-11-22'"], ["21S0369"]),
    ],
)
def test_select_prints_the_files_that_fit(
    nirflow: Run, night: Path, options: list[str], roots: list[str]
) -> None:
    result = nirflow("select", night, *options)
    assert result.exit_code == 0
    assert [Path(line).name[7:14] for line in result.stdout.splitlines()] == roots
    assert all(Path(line).is_file() for line in result.stdout.splitlines())


def test_select_json_gives_the_facts(nirflow: Run, night: Path) -> None:
    result = nirflow("select", night, "--tags", "LAMPON", "--json")
    (frame,) = json.loads(result.stdout)
    assert (frame["lamp"], frame["filter"], frame["night"]) == ("on", "Y", "2013-11-29")


def test_select_without_a_match_prints_nothing_on_standard_output(nirflow: Run, night: Path) -> None:
    result = nirflow("select", night, "--where", "exposure_time > 1000")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "None of 8 frames matches" in result.stderr


def test_select_names_broken_files_on_standard_error_only(nirflow: Run, night: Path) -> None:
    (night / "broken.fits").write_bytes(b"no")
    result = nirflow("select", night, "--tags", "DARK")
    assert result.exit_code == 4
    assert len(result.stdout.splitlines()) == 3
    assert "broken.fits" in result.stderr


def test_select_names_documents_names_tags_and_rules(nirflow: Run) -> None:
    result = nirflow("select", "--names")
    assert result.exit_code == 0
    assert "exposure of one coadd, s" in result.stdout
    assert "GCAL_IR_ON" in result.stdout
    assert {"name": "lamp", "choices": ["on", "off"]}.items() <= next(
        name for name in json.loads(nirflow("select", "--names", "--json").stdout) if name["name"] == "lamp"
    ).items()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--where", "exposre_time == 3"], ["column 1", "^", "Did you mean exposure_time", "read_pairs"]),
        (["--where", "exposure_time == 'x'"], ["cannot be compared"]),
        (["--tags", "DRAK"], ["Unknown tag 'DRAK'", "Did you mean DARK", "LAMPON"]),
        (["--not-tags", "nonsense"], ["Unknown tag 'NONSENSE'"]),
    ],
)
def test_an_invalid_expression_is_a_usage_error_before_any_file_is_read(
    nirflow: Run, night: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: list[str]
) -> None:
    monkeypatch.setattr("nirflow.survey.examine_file", lambda *_, **__: pytest.fail("a file was read"))
    result = nirflow("select", night, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert all(term in result.stderr for term in expected)


def test_a_missing_path(nirflow: Run, tmp_path: Path) -> None:
    result = nirflow("inspect", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "nowhere: there is no such file" in "".join(result.stderr.splitlines())


def test_an_error_is_one_message_with_a_remedy_and_a_traceback_only_on_demand(
    nirflow: Run, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imaging.errors import StoreError

    def fail(*_: object, **__: object) -> None:
        raise StoreError("The database [red]is down[/red].", remedy="Start it.")

    monkeypatch.setattr("nirflow.survey.survey", fail)
    result = nirflow("inspect", night)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: The database [red]is down[/red].\nStart it.\n"
    assert isinstance(nirflow("--debug", "inspect", night).exception, StoreError)


def test_an_interrupt_is_reported_briefly(nirflow: Run, night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nirflow.survey.survey", interrupt)
    result = nirflow("inspect", night)
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


def test_simulate_writes_frames_and_truth(nirflow: Run, tmp_path: Path) -> None:
    options = ["--size", 128, "--band", "J", "--seed", 3, "--science", 2, "--darks", 1, "--short-darks", 0]
    options += ["--lamp-on", 1, "--lamp-off", 1, "--exposure", 30, "--set", "coadds=2", "--json"]
    result = nirflow("simulate", tmp_path / "night", *options)
    assert result.exit_code == 0
    reported = json.loads(result.stdout)
    assert len(reported["files"]) == 5
    assert (Path(reported["truth"]) / "night.json").is_file()
    night = json.loads((Path(reported["truth"]) / "night.json").read_text())
    assert (night["band"], night["seed"], night["science_time"], night["coadds"]) == ("J", 3, 30.0, 2)
    assert nirflow("simulate", tmp_path / "night", *options).exit_code == 0  # the same night: unchanged
    other = nirflow("simulate", tmp_path / "night")
    assert other.exit_code == 2
    assert "other FITS files" in other.stderr


def test_a_small_simulated_night_can_be_inspected_on_request(nirflow: Run, tmp_path: Path) -> None:
    nirflow("simulate", tmp_path, "--size", 128, "--science", 3, "--darks", 1, "--short-darks", 1)
    assert nirflow("inspect", tmp_path).exit_code == 4
    result = nirflow("inspect", tmp_path, "--any-shape", "--pixels")
    assert result.exit_code == 0
    assert "(dither)" in result.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--set", "seing=1"], "Did you mean seeing"),
        (["--set", "seeing=9"], "in arcsec"),
        (["--exposure", "-1"], "science_time cannot be '-1.0'"),
        (["--set", "stale_wcs=20"], "9 science frames"),
    ],
)
def test_an_impossible_night_is_refused_before_a_folder_is_made(
    nirflow: Run, tmp_path: Path, options: list[str], expected: str
) -> None:
    result = nirflow("simulate", tmp_path / "night", *options)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert not (tmp_path / "night").exists()


def test_simulate_lists_its_parameters(nirflow: Run) -> None:
    reported = json.loads(nirflow("simulate", "--parameters", "--json").stdout)
    assert {"seeing", "pedestal", "stale_wcs"} <= {each["name"] for each in reported}


@pytest.mark.parametrize(
    "command", [["simulate"], ["select"], ["inspect"], ["reduce"], ["cal", "show"], ["nonsense"]]
)
def test_a_command_that_lacks_something_is_a_usage_error(nirflow: Run, command: list[str]) -> None:
    assert nirflow(*command).exit_code == 2

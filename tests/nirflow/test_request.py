from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import Result

from flows.run.report import NightReport
from nirflow.exits import UsageError
from nirflow.request import ReduceRequest, build_request
from nirflow.step_settings import describe, resolve, shown
from tasks.support.parameters import STEPS, ReductionParameters
from tasks.support.references import LeftOut

Run = Callable[..., Result]


def build(**changes: Any) -> ReduceRequest:
    return build_request([Path("night")], **{"out": Path("out")} | changes)


def test_without_options_everything_is_made_with_the_defaults() -> None:
    request = build()
    assert request.parameters == ReductionParameters()
    assert (request.bands, request.only, request.use, request.allow_missing) == ((), (), (), frozenset())


def test_options_become_typed_values() -> None:
    request = build(
        bands=["k-RED", "Y", "y"], only=["flat", "flat"], use=["dark=a_dark.fits", "FLAT = 1=2"],
        allow_missing=["bpm"], memory="1.5GB", settings=["groups.max_gap_days=9"], threads=2,
    )  # fmt: skip
    assert request.bands == ("K-red", "Y")
    assert request.only == ("flat",)
    assert [(use.kind, use.name) for use in request.use] == [("dark", "a_dark.fits"), ("flat", "1=2")]
    assert request.allow_missing == frozenset({"bpm"})
    assert request.memory == 1_500_000_000
    assert request.parameters.groups.max_gap_days == 9
    assert request.changed == ("groups.max_gap_days=9",)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bands": ["Z"]}, "Bands: Y, J, H"),
        ({"bands": ["kred"]}, "Did you mean K-red"),
        ({"use": ["dark"]}, "names no calibration"),
        ({"use": ["arc=x"]}, "Write dark=, bpm="),
        ({"use": ["dark="]}, "names no calibration"),
        ({"use": ["dark=a", "dark=b"]}, "more than one dark"),
        ({"memory": "lots"}, "Write 800MB"),
        ({"memory": "-1"}, "Write 800MB"),
        ({"memory": "10kB"}, "too small"),
        ({"threads": 0}, "threads cannot be 0"),
        ({"settings": ["stak.combine=1"]}, "Did you mean stack"),
        ({"settings": ["groups.max_gap_days=-1"]}, "in days"),
    ],
)
def test_invalid_options_are_refused_with_a_remedy(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(**changes)
    assert expected in str(caught.value)


def test_a_request_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        build().out = Path("other")  # type: ignore[misc]


def test_what_is_made_again_has_its_own_parameters() -> None:
    with pytest.raises(UsageError, match=r"--set stack.low=4 cannot go with --affected-by"):
        build_request([], out=Path("out"), affected_by="S1", settings=["check.shape=none", "stack.low=4"])
    request = build_request([], out=Path("out"), affected_by="S1", settings=["check.shape=none"])
    assert request.parameters.check.shape is None
    assert not request.across_nights
    assert build_request([], out=Path("out"), across_nights=True).across_nights


@pytest.mark.parametrize("step", STEPS)
def test_every_parameter_of_every_step_has_a_meaning_and_its_default_can_be_set(step: str) -> None:
    described = describe(step, STEPS[step])
    assert all(info.meaning for info in described)
    settings = [f"{step}.{info.name}={shown(info.default)}" for info in described]
    assert resolve(settings, STEPS)[step] == STEPS[step]() if settings else True


def test_params_shows_every_step_and_one_alone(nirflow: Run) -> None:
    everything = json.loads(nirflow("params", "--json").stdout)
    assert {info["step"] for info in everything} == {name for name in STEPS if describe(name, STEPS[name])}
    lines = [" ".join(line.split()) for line in nirflow("params", "groups").stdout.splitlines()]
    assert any(line.startswith("groups.max_gap_days none [days] > 0 a group of raw frames") for line in lines)
    wrong = nirflow("params", "grups")
    assert wrong.exit_code == 2
    assert "Did you mean groups?" in wrong.stderr


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[ReduceRequest]:
    """Return the requests that reach the flows, which are not run here; each report leaves out one frame."""
    requests: list[ReduceRequest] = []

    def run_reduce(request: ReduceRequest) -> NightReport:
        requests.append(request)
        lost = LeftOut(name="x.fits", reason="empty")
        return NightReport(
            out=request.out, started=datetime(2026, 1, 1, tzinfo=UTC), seconds=1, left_out=(lost,)
        )

    module = types.ModuleType("nirflow.reduction")
    module.run_reduce = run_reduce  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nirflow.reduction", module)
    return requests


def test_reduce_passes_on_the_request_and_reports_the_outcome(
    nirflow: Run, asked: list[ReduceRequest], night: Path, tmp_path: Path
) -> None:
    options = ["--out", tmp_path, "--band", "y", "--only", "dark", "--only", "bpm", "--use", "bpm=b.fits"]
    options += ["--set", "groups.max_gap_days=9", "--allow-missing", "flat", "--overwrite", "--threads", "3"]
    result = nirflow("reduce", night, night / "*.fits", *options, "--memory", "800MB")
    assert result.exit_code == 3
    assert "Left out, x.fits: empty" in result.stdout
    (request,) = asked
    assert request == build_request(
        [night, night / "*.fits"], out=tmp_path, bands=["Y"], only=["dark", "bpm"],
        use=["bpm=b.fits"], settings=["groups.max_gap_days=9"], allow_missing=["flat"],
        overwrite=True, threads=3, memory="800MB",
    )  # fmt: skip


def test_reduce_json_is_the_report_and_shows_no_progress(
    nirflow: Run, asked: list[ReduceRequest], night: Path
) -> None:
    reported = json.loads(nirflow("reduce", night, "--json").stdout)
    assert reported["left_out"][0]["name"] == "x.fits"
    assert asked[0].quiet


@pytest.mark.parametrize(
    "options", [["--set", "stack"], ["--only", "arc"], ["--band", "Q"], ["--threads", "0"]]
)
def test_a_wrong_option_starts_nothing(
    nirflow: Run, asked: list[ReduceRequest], night: Path, options: list[str]
) -> None:
    result = nirflow("reduce", night, *options)
    assert result.exit_code == 2
    assert asked == []


def test_nothing_is_started_for_a_path_that_is_missing_or_has_no_frames(
    nirflow: Run, asked: list[ReduceRequest], tmp_path: Path
) -> None:
    assert nirflow("reduce", tmp_path / "nowhere").exit_code == 2
    assert nirflow("reduce", tmp_path).exit_code == 3
    assert asked == []


def test_a_path_that_the_record_of_runs_cannot_hold_is_refused() -> None:
    odd = Path("night\udcff")  # as Python has a byte that is not valid UTF-8
    for paths, out in (([odd], Path("out")), ([Path("night")], odd)):
        with pytest.raises(UsageError, match=r"night.* not valid UTF-8") as caught:
            build_request(paths, out=out)
        assert "ln -s" in caught.value.remedy
    assert build_request([Path("nächte\n")], out=Path("out")).paths == (Path("nächte\n"),)


def test_a_catalogue_is_named_by_its_complete_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stars.csv").write_text("ra,dec\n")
    monkeypatch.chdir(tmp_path)
    for request in (build(catalogue="stars.csv"), build(settings=["catalogue.source=stars.csv"])):
        assert request.parameters.catalogue.source == str(tmp_path / "stars.csv")
    assert build(catalogue="vizier:2MASS").parameters.catalogue.service == ("vizier", "2MASS")
    with pytest.raises(UsageError, match=r"no catalogue .*/nowhere\.fits"):
        build(catalogue="nowhere.fits")
    with pytest.raises(UsageError, match="cannot go with --affected-by"):
        build_request([], out=Path("out"), affected_by="S1", catalogue="stars.csv")


def test_the_catalogue_of_the_settings_is_used_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NIRFLOW_CATALOGUE_SOURCE", "vizier:VHS")
    assert build().parameters.catalogue.source == "vizier:VHS"
    assert build(catalogue="vizier:2MASS").parameters.catalogue.source == "vizier:2MASS"
    assert not build(catalogue="none").parameters.catalogue.wanted

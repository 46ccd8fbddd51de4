from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from deployments.prefect_server.server import ServerStatus
from deployments.settings.server_settings import ServerAddress
from flows.run.report import NightReport
from imaging.simulator.parameters import NightParameters
from imaging.simulator.score_figures import NightScore, ScoreRow
from nirflow import demo
from nirflow.exits import UsageError
from tasks.support.references import ProductRef

Run = Callable[..., Result]
DOWN = ServerStatus(False, False, None, None, None, None)
UP = ServerStatus(True, True, 42, "http://h/api", "http://h", Path("server.log"))
SMALL = NightParameters(size=128, n_science=2, n_darks=1, n_short_darks=1, n_lamp_on=1, n_lamp_off=1)


@pytest.mark.parametrize(
    ("state", "code", "expected"), [(UP, 0, "Process 42, ready"), (DOWN, 3, "No server is running")]
)
def test_server_status(
    nirflow: Run, monkeypatch: pytest.MonkeyPatch, state: ServerStatus, code: int, expected: str
) -> None:
    monkeypatch.setattr("deployments.prefect_server.server.server_status", lambda data_dir: state)
    result = nirflow("server", "status")
    assert (result.exit_code, expected in result.stdout) == (code, True)
    reported = json.loads(nirflow("server", "status", "--json").stdout)
    assert (reported["running"], reported["ui"]) == (state.running, state.ui_url)


def test_server_start_and_stop_act_on_the_data_folder_of_the_settings(
    nirflow: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, Path]] = []

    def start(data_dir: Path) -> ServerAddress:
        asked.append(("start", data_dir))
        return ServerAddress(api_url="http://h/api", ui_url="http://h", pid=42, started=True, home=None)

    def stop(data_dir: Path) -> bool:
        asked.append(("stop", data_dir))
        return len(asked) == 2

    monkeypatch.setattr("deployments.prefect_server.server.ensure_server", start)
    monkeypatch.setattr("deployments.prefect_server.server.stop_server", stop)
    monkeypatch.setattr("calib_store.server.postgres.stop", lambda data_dir: len(asked) == 2)
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path))
    assert "Started (process 42). Runs and logs: http://h" in nirflow("server", "start").stdout
    both = "Stopped the Prefect server.\nStopped the embedded PostgreSQL.\n"
    assert nirflow("server", "stop").stdout == both
    assert nirflow("server", "stop", "--keep-database").stdout == "No Prefect server was running.\n"
    assert asked == [("start", tmp_path), ("stop", tmp_path), ("stop", tmp_path)]


def test_the_same_night_is_simulated_once(tmp_path: Path) -> None:
    truth = demo.simulated(tmp_path / "raw", SMALL)
    stamps = [path.stat().st_mtime_ns for path in truth.raw_paths()]
    again = demo.simulated(tmp_path / "raw", SMALL)
    assert [path.stat().st_mtime_ns for path in again.raw_paths()] == stamps
    with pytest.raises(UsageError, match="other FITS files"):
        demo.simulated(tmp_path / "raw", SMALL.model_copy(update={"seed": 1}))


def made(kind: str, root: str, **changes: Any) -> ProductRef:
    values: dict[str, Any] = {
        "id": root, "kind": kind, "name": f"{root}_{kind}.fits", "sha256": "0" * 64, "recipe_key": "1" * 64,
        "inputs": (f"{root}.fits",),
    }  # fmt: skip
    return ProductRef(**values | changes)


def test_products_are_judged_by_the_frames_that_they_were_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = demo.simulated(tmp_path / "raw", SMALL)
    root = {role: truth.of_role(role)[0].root for role in ("dark", "short_dark", "lamp_off", "science")}  # type: ignore[arg-type]
    products = (
        made("dark", root["short_dark"]),
        made("dark", root["dark"], output=Path("out/dark.fits")),
        made("flat", root["lamp_off"], output=Path("out/flat.fits")),
        made("image", root["science"], output=Path("out/image.fits")),
    )
    judged: dict[str, Any] = {}
    monkeypatch.setattr("imaging.simulator.score.score_night", lambda truth, **files: judged.update(files))
    demo.compare(NightReport(products=products, out=tmp_path, started=datetime.now(UTC), seconds=1), truth)
    assert judged == {
        "bpm": None,
        "dark": Path("out/dark.fits"),
        "flat": Path("out/flat.fits"),
        "stack": Path("out/image.fits"),
    }


@pytest.mark.parametrize(("value", "code", "term"), [(1.0, 0, "good"), (2.0, 4, "BEYOND")])
def test_demo_simulates_reduces_and_compares(
    nirflow: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, code: int, term: str
) -> None:
    requests: list[Any] = []

    def run_reduce(request: Any) -> NightReport:
        requests.append(request)
        return NightReport(
            products=(made("dark", "S1"),), out=request.out, started=datetime.now(UTC), seconds=1
        )  # fmt: skip

    module = types.ModuleType("nirflow.reduction")
    module.run_reduce = run_reduce  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nirflow.reduction", module)
    row = ScoreRow(product="dark", figure="VAR pull", value=value, low=0.9, high=1.1, meaning="width")
    other = row.model_copy(update={"product": "stack", "figure": "pull"})
    monkeypatch.setattr("nirflow.demo.compare", lambda report, truth: NightScore(rows=(row,)))
    monkeypatch.setattr("nirflow.demo.compare_disturbed", lambda report, truth: NightScore(rows=(other,)))
    options = ["--size", 128, "--set", "n_science=1", "--set", "n_darks=1"]
    result = nirflow("demo", "--out", tmp_path / "demo", *options)
    assert result.exit_code == code
    printed = " ".join(result.stdout.split())
    assert f"dark VAR pull {value:g} - 0.9 to 1.1 {term}" in printed
    assert f"stack pull {value:g} - 0.9 to 1.1 {term}" in printed
    assert (
        "NIRFLOW_DATA_DIR" not in os.environ
    )  # the demonstration uses its own store, and only while it runs
    folders = [tmp_path / "demo", tmp_path / "demo" / "disturbed"]
    assert [request.paths for request in requests] == [(folder / "raw",) for folder in folders]
    assert [request.out for request in requests] == folders
    assert requests[0].parameters.check.shape is None
    assert len(list((tmp_path / "demo" / "raw").glob("*.fits"))) == 19


def test_a_disturbed_night_without_a_stack_is_not_good(tmp_path: Path) -> None:
    report = NightReport(products=(), out=tmp_path, started=datetime.now(UTC), seconds=1)
    night = demo.disturbed(SMALL)
    assert (night.size, night.seed, night.band) == (SMALL.size, SMALL.seed, SMALL.band)
    assert night.seeing_course == (0.6, 1.0)
    assert demo.disturbed(SMALL.model_copy(update={"size": 2048})).size == 1024
    assert not demo.compare_disturbed(report, demo.simulated(tmp_path / "raw", SMALL)).ok

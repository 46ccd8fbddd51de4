"""Bands: K flats from lamp-offs and darks, and several bands in one night."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from night_lab import Lab, Run, link

from imaging.simulator.night import simulate_night
from imaging.simulator.parameters import NightParameters
from imaging.simulator.score import score_night
from imaging.simulator.truth import NightTruth

FEW = {"size": 384, "n_science": 5, "n_darks": 4, "n_short_darks": 3, "n_lamp_on": 3, "n_lamp_off": 3}


@pytest.fixture(scope="module")
def k_night(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    return simulate_night(tmp_path_factory.mktemp("k"), NightParameters(**FEW, band="K-red", seed=11))


@pytest.fixture(scope="module")
def j_night(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    """A J night of the same detector and dates; its frames have other numbers."""
    folder = tmp_path_factory.mktemp("j")
    truth = simulate_night(folder / "raw", NightParameters(**FEW, band="J", seed=7))
    for path in truth.raw_paths():
        path.rename(folder / f"{path.name[:10]}{int(path.name[10:14]) + 5000}.fits")
    return truth


@pytest.fixture(scope="module")
def both(new_lab: Callable[..., Lab], j_night: NightTruth, night: NightTruth) -> tuple[Lab, list[Path], Run]:
    lab, folders = new_lab(), [night.folder.parent, j_night.folder.parent.parent]
    return lab, folders, lab.reduce(*folders)


def test_k_flat_comes_from_lamp_offs_and_darks(new_lab: Callable[..., Lab], k_night: NightTruth) -> None:
    run = new_lab().reduce(k_night.folder.parent)
    assert run.report.failures == run.report.left_out == ()
    offs = {f"{f.root}.fits" for f in k_night.of_role("lamp_off")}
    short = {f"{f.root}.fits" for f in k_night.of_role("short_dark")}
    assert set(run.product("flat").inputs) == offs | short
    assert set(run.product("bpm").inputs) == offs | short
    assert run.product("flat").calibrations == (run.product("bpm").name,)
    stack = run.product("image")
    dark = run.product("dark", "5 s")
    assert set(stack.calibrations) == {dark.name, run.product("bpm").name, run.product("flat").name}
    score = score_night(
        k_night, bpm=run.product("bpm").path, dark=dark.path, flat=run.product("flat").path, stack=stack.path
    )
    figures = ("bad pixels found", "false bad pixels", "VAR pull", "rms / photon floor", "registration")
    assert [row for row in score.failed if row.figure in figures] == []


def test_k_flat_without_darks_is_refused_with_the_way_on(
    new_lab: Callable[..., Lab], k_night: NightTruth, tmp_path: Path
) -> None:
    """Its darks are not in the night; a processed dark of the store takes no part in making a flat."""
    lab = new_lab()
    raw = k_night.folder.parent
    first = lab.reduce(link([raw / f.file for f in k_night.of_role("short_dark")], tmp_path / "darks"))
    assert first.kinds() == ["dark"]
    rest = [f for f in k_night.frames if f.role != "short_dark"]
    run = lab.reduce(link([raw / f.file for f in rest], tmp_path / "night"), out="without")
    told = " ".join(f"{f.label}: {f.message}" for f in run.report.failures)
    assert "flat K-red" in told
    left = " ".join(f"{one.name}: {one.reason} {one.remedy}" for one in run.report.left_out)
    assert "bad pixel mask" in left
    assert "no darks of 2 s to go with the lamp-offs" in left
    allowed = lab.reduce(tmp_path / "night", out="allowed", choice={"allow_missing": ["bpm"]})
    message = allowed.failure("flat K-red")
    assert "no darks of 2 s for the lamp-offs" in message
    assert "raw darks" in message
    assert "Give" in message


def test_two_bands_share_the_mask(both: tuple[Lab, list[Path], Run]) -> None:
    run = both[2]
    assert run.report.failures == run.report.left_out == ()
    assert run.kinds() == ["bpm", "dark", "dark", "flat", "flat", "image", "image"]
    (mask,) = [p for p in run.report.products if p.kind == "bpm"]
    for band, dark in (("Y", "120 s"), ("J", "60 s")):
        assert set(run.product("image", f" {band} ").calibrations) == {
            mask.name,
            run.product("flat", f"flat {band}").name,
            run.product("dark", dark).name,
        }


def test_one_band_of_a_night_and_one_product(both: tuple[Lab, list[Path], Run]) -> None:
    lab, folders, first = both
    j_only = lab.reduce(*folders, out="j", bands=("J",))
    assert {p.id for p in j_only.report.products if p.kind in ("flat", "image")} == {
        first.product("flat", "flat J").id,
        first.product("image", " J ").id,
    }
    assert j_only.built == Counter()
    flats = lab.reduce(*folders, out="flats", only=("flat",))
    assert {p.kind for p in flats.report.products} == {"bpm", "dark", "flat"}
    assert flats.built == Counter()

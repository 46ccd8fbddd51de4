"""Bands: K flats from lamp-offs and darks, and several bands in one night."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from night_lab import Lab, Run, link

from imaging.simulator.parameters import NightParameters
from imaging.simulator.score import score_night
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

FEW = {"size": 384, "n_science": 5, "n_darks": 4, "n_short_darks": 3, "n_lamp_on": 3, "n_lamp_off": 3}


@pytest.fixture(scope="module")
def k_night(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    return simulate_night(tmp_path_factory.mktemp("k"), NightParameters(**FEW, band="K-red", seed=11))


@pytest.fixture(scope="module")
def j_night(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    """Return a J night of the same detector and dates; its frames have other numbers."""
    folder = tmp_path_factory.mktemp("j")
    truth = simulate_night(folder / "raw", NightParameters(**FEW, band="J", seed=8, detector_seed=7))
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
    assert set(run.product("dark", "2 s").inputs) == short
    assert set(run.product("flat").inputs) == offs
    assert set(run.product("bpm").inputs) == offs | short
    assert set(run.product("flat").calibrations) == {run.product("dark", "2 s").name, run.product("bpm").name}
    stack = run.product("image")
    dark = run.product("dark", "5 s")
    assert set(stack.calibrations) == {dark.name, run.product("bpm").name, run.product("flat").name}
    score = score_night(
        k_night,
        bpm=run.product("bpm").output,
        dark=dark.output,
        flat=run.product("flat").output,
        stack=stack.output,
    )
    figures = ("bad pixels found", "false bad pixels", "VAR pull", "rms / photon floor", "registration")
    assert [row for row in score.failed if row.figure in figures] == []


def test_k_flat_uses_the_dark_of_the_store_or_reports_what_it_lacks(
    new_lab: Callable[..., Lab], k_night: NightTruth, tmp_path: Path
) -> None:
    lab = new_lab()
    raw = k_night.folder.parent
    rest = [raw / f.file for f in k_night.frames if f.role != "short_dark"]
    folder = link(rest, tmp_path / "night")
    bare = lab.reduce(folder, choice={"allow_missing": ["bpm"]})
    assert bare.kinds() == ["dark"]
    refused = bare.failure("flat K-red")
    assert "no dark serves" in refused
    assert "exposure 2 s, 1 read pair, 1 coadd" in refused
    assert "--use dark=" in refused
    (mask,) = [one for one in bare.report.left_out if one.name == "bad pixel mask"]
    assert mask.reason == "no darks of 2 s to go with the lamp-offs"

    darks = lab.reduce(link([raw / f.file for f in k_night.of_role("short_dark")], tmp_path / "darks"))
    assert darks.kinds() == ["dark"]
    run = lab.reduce(folder, out="again", choice={"allow_missing": ["bpm"]})
    assert run.report.failures == ()
    assert run.kinds() == ["dark", "flat", "image"]
    assert run.product("flat").calibrations == (darks.product("dark").name,)
    assert "made without a bpm, as the user allowed" in run.product("flat").warnings


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
    assert j_only.kinds() == ["bpm", "dark", "flat", "image"]
    assert {p.id for p in j_only.report.products if p.kind in ("flat", "image")} == {
        first.product("flat", "flat J").id,
        first.product("image", " J ").id,
    }
    assert j_only.built == Counter()
    flats = lab.reduce(*folders, out="flats", only=("flat",))
    assert {p.kind for p in flats.report.products} == {"bpm", "flat"}
    assert flats.built == Counter()

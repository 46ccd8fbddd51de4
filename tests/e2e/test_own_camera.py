"""Nights of cameras that only a table of the user's knows: one HDU and no WCS; two arrays with overscans."""

from __future__ import annotations

import bz2
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from night_lab import Lab, Run
from own_cameras import OVERSCAN, OWL, PEDESTAL, night_of, one_hdu, tables, twin_table, two_arrays

from calib_store.curation.ingredients import ingredients
from imaging.frames.find_files import CheckParameters
from imaging.io.examine import examine
from imaging.products.product_file import read_table
from imaging.simulator.truth import NightTruth
from nirflow.commands.check import _compared


def stars_of(run: Run) -> np.ndarray:
    """The ten brightest stars of the only stack: x, y, flux."""
    table = read_table(run.product("image").output, "OBJCAT")
    assert table is not None
    return np.array([table["x"], table["y"], table["flux"]]).T[:10]


def planes(run: Run, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with fits.open(run.product(kind).output) as hdus:
        return tuple(np.array(hdus[name].data) for name in ("SCI", "VAR", "DQ"))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def owl(new_lab: Callable[..., Lab], night: NightTruth, tmp_path_factory: pytest.TempPathFactory) -> Run:
    raws = list(night.folder.parent.glob("*.fits"))
    folder = night_of(raws, tmp_path_factory.mktemp("owl") / "night", one_hdu, "Owl")
    with tables(OWL):
        return new_lab().reduce(folder)


@pytest.fixture(scope="module")
def twin_table_path(night: NightTruth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twin_table(384, tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def twin_lab(new_lab: Callable[..., Lab]) -> Lab:
    return new_lab()


@pytest.fixture(scope="module")
def twin(
    twin_lab: Lab, twin_table_path: Path, night: NightTruth, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    base = tmp_path_factory.mktemp("twin")
    folder = night_of(list(night.folder.parent.glob("*.fits")), base / "night", two_arrays, "Twin")
    with tables(twin_table_path):
        return twin_lab.reduce(folder, steps={"check": {"shape": "detector"}})


@pytest.mark.parametrize("camera", ["owl", "twin"])
def test_the_night_is_reduced(camera: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(camera)
    assert run.kinds() == ["bpm", "dark", "flat", "image"]
    assert run.report.failures == ()
    assert run.report.left_out == ()
    stack = run.product("image")
    assert len(stack.inputs) == 5
    assert stack.metrics["scaled_by"] == "stars"
    assert stack.metrics["weakly_aligned"] == 0
    assert stack.metrics["registration"] < 0.02


@pytest.mark.parametrize(("camera", "pedestal"), [("owl", PEDESTAL * 4.44), ("twin", 0.0)])
def test_dark_and_flat_are_those_of_the_same_pixels(
    camera: str, pedestal: float, reduced: Run, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue(camera)
    for kind, level, close in (("dark", pedestal, 0.1), ("flat", 0.0, 5e-4)):
        ours, _, dq = planes(run, kind)
        theirs, _, their_dq = planes(reduced, kind)
        good = (dq == 0) & (their_dq == 0)
        assert good.mean() > 0.8  # the corners without light
        assert abs(np.median((ours - theirs)[good]) - level) < close, kind


def test_the_noise_of_the_overscan_is_in_the_variance(twin: Run, owl: Run) -> None:
    ratio = np.median(planes(twin, "dark")[1]) / np.median(planes(owl, "dark")[1])
    read, rounding = 5.0**2, 4.44**2 / 12
    level = (read + rounding) / OVERSCAN
    assert 1.01 < ratio < 1 + 1.5 * level / (read + rounding)


@pytest.mark.parametrize("camera", ["owl", "twin"])
def test_the_stars_are_those_of_the_same_pixels(
    camera: str, reduced: Run, request: pytest.FixtureRequest
) -> None:
    ours, theirs = stars_of(request.getfixturevalue(camera)), stars_of(reduced)
    bright = theirs[:, 2] > 0.02 * theirs[0, 2]
    # Frames of another noise may have another reference, and so another origin and transparency.
    moved = ours[bright, :2] - theirs[bright, :2]
    np.testing.assert_allclose(moved, np.broadcast_to(np.median(moved, axis=0), moved.shape), atol=0.02)
    # The night's detector is not linear, which the tables of these cameras do not correct.
    ratio = ours[bright, 2] / theirs[bright, 2]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.07)
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=0.03)


def test_a_compressed_frame_is_examined_by_its_headers_like_the_plain_one(
    night: NightTruth, tmp_path: Path
) -> None:
    raws = [night.folder.parent / frame.file for frame in night.of_role("science")][:2]
    folder = night_of(raws, tmp_path / "night", two_arrays, "Twin")
    with tables(twin_table(384, tmp_path)):
        for plain in sorted(folder.glob("*.fits")):
            packed = plain.with_name(f"{plain.name}.bz2")
            packed.write_bytes(bz2.compress(plain.read_bytes()))
            first, second = (
                examine(path, CheckParameters(shape=(384, 384)), pixels=False) for path in (plain, packed)
            )
            assert first.facts == second.facts
            assert first.usable
            assert second.usable


def test_ccdproc_agrees_for_assembled_frames(twin_lab: Lab, twin: Run, twin_table_path: Path) -> None:
    with tables(twin_table_path):
        store = twin_lab.store()
        made_of = ingredients(store, store.get(twin.product("image").uuid))
        found = _compared(store, made_of, made_of.frames[0])
    assert isinstance(found, list)
    assert [(one.plane, one.unexplained) for one in found] == [("SCI", 0), ("VAR", 0), ("DQ", 0)]
    assert found[0].left_rms < 1e-3

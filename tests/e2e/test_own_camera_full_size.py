"""The cameras that only a table knows, with arrays of 1024 x 1024 pixels: the tables as the documentation has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from night_lab import Lab, Run
from own_cameras import OWL, PEDESTAL, night_of, one_hdu, tables, twin_table, two_arrays

from calib_store.curation.ingredients import ingredients
from imaging.products.product_file import read_product, read_table
from imaging.simulator.parameters import NightParameters
from imaging.simulator.simulate import simulate_night
from nirflow.commands.check import _compared

SIZE = 1024
FEW = {"n_science": 5, "n_darks": 4, "n_short_darks": 3, "n_lamp_on": 3, "n_lamp_off": 3}


def stars_of(run: Run) -> np.ndarray:
    """The ten brightest stars of the stack: x, y, flux."""
    table = read_table(run.product("image").output, "OBJCAT")
    assert table is not None
    return np.array([table["x"], table["y"], table["flux"]]).T[:10]


def reduced(folder: Path, lab: Lab) -> Run:
    """Reduce a night, and compare a frame with ccdproc's reduction of it."""
    run = lab.reduce(folder, steps={"check": {"shape": "detector"}})
    assert run.kinds() == ["bpm", "dark", "flat", "image"]
    assert (run.report.failures, run.report.left_out) == ((), ())
    assert len(run.product("image").inputs) == FEW["n_science"]
    assert run.product("image").metrics["registration"] < 0.02
    made_of = ingredients(lab.store(), lab.store().get(run.product("image").uuid))
    found = _compared(lab.store(), made_of, made_of.frames[0])
    assert isinstance(found, list)
    assert [(one.plane, one.unexplained) for one in found] == [("SCI", 0), ("VAR", 0), ("DQ", 0)]
    return run


@pytest.mark.long
def test_nights_of_full_frames_are_reduced_alike(new_lab: Callable[..., Lab], tmp_path: Path) -> None:
    twins = twin_table(SIZE, tmp_path)
    night = simulate_night(tmp_path / "f2", NightParameters(**FEW, size=SIZE, seed=7))
    with tables(OWL, twins):
        owl, twin = (
            reduced(night_of(night.raw_paths(), tmp_path / camera, how, camera), new_lab(SIZE))
            for camera, how in (("Owl", one_hdu), ("Twin", two_arrays))
        )
        dark, other = (read_product(run.product("dark").output) for run in (owl, twin))
        ours, theirs = stars_of(owl), stars_of(twin)
    good = (dark.dq == 0) & (other.dq == 0)
    assert dark.sci.shape == other.sci.shape == (SIZE, SIZE)
    assert good.mean() > 0.9
    assert np.median((dark.sci - other.sci)[good]) == pytest.approx(PEDESTAL * 4.44, abs=0.2)
    shift = np.median(ours[:, :2] - theirs[:, :2], axis=0)  # their reference frames may differ
    np.testing.assert_allclose(ours[:, :2], theirs[:, :2] + shift, atol=0.02)
    scale = np.median(ours[:, 2] / theirs[:, 2])
    np.testing.assert_allclose(ours[:, 2], theirs[:, 2] * scale, rtol=0.003)

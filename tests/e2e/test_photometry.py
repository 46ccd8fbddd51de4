"""Stacks with magnitudes: of a catalogue, or nominal; the maps; what the header, OBJCAT and ALIGNMENT record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from night_lab import Lab, Run

from imaging.products.product_file import read_table
from imaging.simulator.parameters import NightParameters
from imaging.simulator.reference.draw_catalogue import true_zero_point
from imaging.simulator.score_stack import read_stack, score_stack
from imaging.simulator.simulate import simulate_night
from imaging.simulator.truth import NightTruth

SIZE = 512


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    """Return a night of a field with many stars on an array with an even response, so that no flat is needed."""
    few = {"n_science": 4, "n_darks": 0, "n_short_darks": 0, "n_lamp_on": 0, "n_lamp_off": 0}
    even = {"pixel_flat_rms": 0.0, "large_scale_flat": 0.0, "defects": 0.0}
    return simulate_night(
        tmp_path_factory.mktemp("field"),
        NightParameters(size=SIZE, n_stars=80, n_bright=15, seed=5, **few, **even),
    )


@pytest.fixture(scope="module")
def lab(new_lab: Callable[..., Lab]) -> Lab:
    return new_lab(SIZE)


def reduced(lab: Lab, night: NightTruth, out: str, steps: Mapping[str, Any]) -> Run:
    without = {"allow_missing": ["dark", "flat", "bpm"]}
    return lab.reduce(*night.raw_paths(), out=out, steps=dict(steps), choice=without)


@pytest.fixture(scope="module")
def nominal(lab: Lab, field: NightTruth) -> Run:
    return reduced(lab, field, "nominal", {})


@pytest.fixture(scope="module")
def calibrated(lab: Lab, field: NightTruth, nominal: Run) -> Run:
    steps = {"catalogue": {"source": str(field.catalogue)}, "stack": {"coverage": True, "depth_map": True}}
    return reduced(lab, field, "calibrated", steps)


def cards(run: Run) -> fits.Header:
    return fits.getheader(run.product("image").output, 0)


def truth_of(night: NightTruth, frame: str) -> float:
    one = night.frame(frame)
    return true_zero_point(night.parameters) + 2.5 * math.log10(one.exposure * one.throughput)


def test_without_a_catalogue_the_zero_point_is_nominal(nominal: Run, field: NightTruth) -> None:
    header = cards(nominal)
    assert header["MAGZSRC"] == "nominal"
    assert header["MAGZERR"] == pytest.approx(0.03, abs=0.002)  # that of the table for Y
    assert "MAGZN" not in header
    assert header["MAGZERO"] == pytest.approx(truth_of(field, header["REFFRAME"]), abs=0.15)
    with fits.open(nominal.product("image").output) as hdus:
        assert not {"EXPOSURE", "DEPTH"} & {hdu.name for hdu in hdus}


def test_the_zero_point_of_a_catalogue_is_true(calibrated: Run, field: NightTruth) -> None:
    header, image = cards(calibrated), calibrated.product("image")
    assert header["MAGZSRC"] == "simulated"
    assert header["MAGSYS"] == "Vega"
    assert header["MAGZN"] >= 10
    off = header["MAGZERO"] - truth_of(field, header["REFFRAME"])
    assert abs(off) < 3.5 * header["MAGZERR"]
    assert header["MAGZERR"] < 0.02
    assert image.metrics["zero_point"] == header["MAGZERO"]
    rows = {row.figure: row for row in score_stack(read_stack(image.output), field)}
    assert rows["zero point, measured - true"].ok
    assert -0.6 < rows["5 sigma limit - photon floor"].value < 0


def test_each_frame_has_its_zero_point_and_the_sky_its_brightness(calibrated: Run, field: NightTruth) -> None:
    table = read_table(calibrated.product("image").output, "ALIGNMENT")
    header = cards(calibrated)
    assert table is not None
    for row in table:
        off = row["zero_point"] - truth_of(field, str(row["name"]).strip())
        assert abs(off) < 3.5 * row["zero_point_error"]
    level = float(np.median([frame.level for frame in field.science]))
    sky = true_zero_point(field.parameters) - 2.5 * math.log10(level / field.parameters.axes.scale**2)
    assert header["SKYMAG"] == pytest.approx(sky, abs=0.1)


def test_magnitudes_are_those_of_the_catalogue(calibrated: Run) -> None:
    table = read_table(calibrated.product("image").output, "OBJCAT")
    header = cards(calibrated)
    assert table is not None
    expected = header["MAGZERO"] - 2.5 * np.log10(table["FLUX_AUTO"])
    assert table["MAG_AUTO"] == pytest.approx(expected, abs=1e-4)
    known = (table["REF_NUMBER"] > 0) & (table["MAGERR_AUTO"] < 0.02) & (table["problems"] == 0)
    assert known.sum() >= 8
    off = (table["MAG_AUTO"] - table["REF_MAG"])[known]
    assert abs(np.median(off)) < 0.03
    assert np.median(np.abs(off)) < 0.06


def test_the_maps_are_planes_of_the_product(calibrated: Run, field: NightTruth) -> None:
    header = cards(calibrated)
    with fits.open(calibrated.product("image").output) as hdus:
        exposure, depth, dq, var, objects = (
            hdus[name].data for name in ("EXPOSURE", "DEPTH", "DQ", "VAR", "OBJMASK")
        )
        assert (hdus["EXPOSURE"].header["BUNIT"], hdus["DEPTH"].header["BUNIT"]) == ("s", "mag")
        assert hdus["DEPTH"].header["CTYPE1"].startswith(("RA", "DEC"))
    one = field.science[0].exposure
    assert exposure.max() == len(field.science) * one
    assert set(np.unique(exposure / one)) <= set(range(len(field.science) + 1))
    assert (exposure[(dq & 16) > 0] == 0).all()
    assert np.isnan(depth[(dq & 16) > 0]).all()
    deepest = exposure == exposure.max()
    assert np.nanmedian(depth[deepest]) == pytest.approx(header["MAGLIM"], abs=0.1)
    empty = np.isfinite(depth) & (objects == 0)
    constant = depth[empty] + 1.25 * np.log10(var[empty])
    assert np.ptp(constant) < 1e-3
    assert np.median(depth[empty]) == pytest.approx(header["MAGLIM"], abs=0.01)


def test_another_catalogue_makes_another_stack(lab: Lab, nominal: Run, calibrated: Run) -> None:
    keys = {run.product("image").recipe_key for run in (nominal, calibrated)}
    assert len(keys) == 2

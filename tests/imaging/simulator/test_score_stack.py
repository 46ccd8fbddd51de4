"""The score of stacks: a perfect one passes, each broken one fails in its own figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from imaging.errors import FrameError
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.f2_nights import SKY_SCALE
from imaging.simulator.score_stack import score_registration, score_stack
from imaging.simulator.simulate import simulate_night
from imaging.simulator.stack_model import Grid, StackProduct, model_stack, noise_floor, read_stack, similarity
from imaging.simulator.star_field import FIELD
from imaging.simulator.truth import NightTruth

SIZE, PAD = 512, 45


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    small = NightParameters(size=SIZE, n_darks=0, n_short_darks=2, n_lamp_on=1, n_lamp_off=1, seed=3)
    return simulate_night(tmp_path_factory.mktemp("stack"), small)


def _wcs(origin: tuple[float, float]) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], list(FIELD)
    wcs.wcs.cd = np.array([[0.0, SKY_SCALE], [SKY_SCALE, 0.0]]) / 3600
    wcs.wcs.crpix = [origin[0] + 1, origin[1] + 1]
    return wcs


@pytest.fixture(scope="module")
def perfect(truth: NightTruth) -> StackProduct:
    """The stack that the truth allows: the model with the floor's noise, and a WCS 1.5 pixels off."""
    frames, reference = truth.science, truth.science[4]
    assert reference.field_centre is not None
    origin = reference.field_centre[0] + PAD, reference.field_centre[1] + PAD
    shape = (SIZE + 2 * PAD, SIZE + 2 * PAD)
    floor, count = noise_floor(truth, frames, Grid(origin, NightParameters().axes), shape)
    var = floor * (1 + 1 / (len(frames) - 1))
    sci = model_stack(truth, frames, Grid(origin, NightParameters().axes), shape)
    sci = sci + np.random.default_rng(6).normal(size=shape).astype(np.float32) * np.sqrt(var)
    mappings = {
        f.root: np.subtract(reference.field_centre, f.field_centre)
        for f in frames
        if f.field_centre is not None
    }
    dq = np.where(count == 0, 16, 0).astype(np.uint16)
    return StackProduct(sci, var, dq, _wcs((origin[0] + 1.5, origin[1] - 1.0)), reference.root, 1.0, mappings)


def _values(product: StackProduct, truth: NightTruth, **options: float) -> dict[str, float]:
    return {row.figure: row.value for row in score_stack(product, truth, **options)}


def _failed(product: StackProduct, truth: NightTruth) -> set[str]:
    return {row.figure for row in score_stack(product, truth) if row.ok is False}


def test_a_perfect_stack_passes(truth: NightTruth, perfect: StackProduct) -> None:
    values = _values(perfect, truth)
    assert not _failed(perfect, truth)
    assert values["registration"] == pytest.approx(0, abs=1e-9)
    assert values["background / photon floor"] == pytest.approx(1.0, abs=0.04)
    assert values["background / floor without sky noise"] == pytest.approx(1.0607, abs=0.04)
    assert values["VAR pull"] == pytest.approx(1.0, abs=0.04)
    assert values["flux scale"] == pytest.approx(1.0, abs=0.002)
    assert values["flux scatter"] < 0.4
    assert values["broadening of stars"] == pytest.approx(0, abs=0.3)
    assert values["outliers beyond 8 sigma"] == 0


def test_a_blurred_stack_fails_by_its_stars(truth: NightTruth, perfect: StackProduct) -> None:
    blurred = replace(perfect, sci=gaussian_filter(perfect.sci, 0.7))
    assert _failed(blurred, truth) >= {"broadening of stars"}
    # 8 x 8 bins see through the blur: it makes the noise little smaller.
    assert _values(blurred, truth)["background / photon floor"] > 0.9


def test_a_stack_of_another_scale_fails_until_it_is_given(truth: NightTruth, perfect: StackProduct) -> None:
    scaled = replace(perfect, sci=1.05 * perfect.sci)
    assert "flux scale" in _failed(scaled, truth)
    mean = float(np.mean([f.transparency for f in truth.science]))
    assert _values(scaled, truth, transparency=1.05 * mean)["flux scale"] == pytest.approx(1.0, abs=0.002)


def test_uneven_photometry_fails(truth: NightTruth, perfect: StackProduct) -> None:
    slope = 1 + np.linspace(-0.05, 0.05, perfect.sci.shape[1])
    assert "flux scatter" in _failed(replace(perfect, sci=perfect.sci * slope), truth)


def test_extra_noise_fails_by_background_and_variance(truth: NightTruth, perfect: StackProduct) -> None:
    extra = np.random.default_rng(8).normal(size=perfect.sci.shape) * 0.6 * np.sqrt(perfect.var)
    failed = _failed(replace(perfect, sci=perfect.sci + extra), truth)
    assert failed >= {"background / photon floor", "VAR pull"}
    honest = replace(perfect, sci=perfect.sci + extra, var=1.36 * perfect.var)
    assert "VAR pull" not in _failed(honest, truth)


def test_the_noise_correlation_factor_enters_the_pull(truth: NightTruth, perfect: StackProduct) -> None:
    smaller = replace(perfect, var=perfect.var / 1.44)
    assert "VAR pull" in _failed(smaller, truth)
    assert "VAR pull" not in _failed(replace(smaller, noise_correlation=1.2), truth)


def test_outliers_in_empty_sky_are_counted(truth: NightTruth, perfect: StackProduct) -> None:
    sci = perfect.sci.copy()
    sci[100:500:25, 100:500:25] += 400.0
    values = _values(replace(perfect, sci=sci), truth)
    assert 200 < values["outliers beyond 8 sigma"] < 1500
    flagged = perfect.dq.copy()
    flagged[100:500:25, 100:500:25] = 8
    assert _values(replace(perfect, sci=sci, dq=flagged), truth)["outliers beyond 8 sigma"] == 0


def test_wrong_mappings_fail_by_registration_alone(truth: NightTruth, perfect: StackProduct) -> None:
    rng = np.random.default_rng(9)
    off = {name: shift + rng.normal(0, 0.1, 2) for name, shift in perfect.mappings.items()}
    assert _failed(replace(perfect, mappings=off), truth) == {"registration"}
    together = {name: shift + np.array([0.4, -0.3]) for name, shift in perfect.mappings.items()}
    assert score_registration(truth, together, perfect.reference).value == pytest.approx(0, abs=1e-9)


def test_a_rotation_shows_in_the_registration(truth: NightTruth, perfect: StackProduct) -> None:
    turned = {name: similarity(*shift, rotation=0.05) for name, shift in perfect.mappings.items()}
    turned[perfect.reference] = similarity(0.0, 0.0)
    assert score_registration(truth, turned, perfect.reference).value > 0.05


def test_a_wcs_of_the_previous_dither_is_seen_through(truth: NightTruth, perfect: StackProduct) -> None:
    wcs = perfect.wcs.deepcopy()
    wcs.wcs.crpix += truth.parameters.dither_step / SKY_SCALE
    off, right = _values(replace(perfect, wcs=wcs), truth), _values(perfect, truth)
    assert off.pop("astrometry") > right.pop("astrometry") + 1000
    assert off == pytest.approx(right, nan_ok=True)


def test_a_stack_of_another_field_is_refused(truth: NightTruth, perfect: StackProduct) -> None:
    noise = np.random.default_rng(1).normal(size=perfect.sci.shape).astype(np.float32)
    with pytest.raises(FrameError, match="bright star"):
        score_stack(replace(perfect, sci=noise), truth)


def test_a_stack_is_read_from_its_file(truth: NightTruth, perfect: StackProduct, tmp_path: Path) -> None:
    header = perfect.wcs.to_header()
    header["NCORR"] = 1.25
    header["RADECSYS"] = "FK5"
    table = Table({
        "name": [*perfect.mappings, "S20131121S0099"],
        "dx": [*(float(v[0]) for v in perfect.mappings.values()), 0.0],
        "dy": [*(float(v[1]) for v in perfect.mappings.values()), 0.0],
        "rotation": np.zeros(10), "scale": np.ones(10), "rms": np.zeros(10), "n_matched": np.ones(10, int),
        "flux_scale": np.ones(10), "used": [True] * 9 + [False],
    })  # fmt: skip
    primary = fits.PrimaryHDU()
    primary.header["REFFRAME"] = perfect.reference + ".fits"
    hdus = fits.HDUList([primary, fits.ImageHDU(perfect.sci, header, name="SCI")])
    hdus.append(fits.ImageHDU(perfect.var, name="VAR"))
    hdus.append(fits.ImageHDU(perfect.dq, name="DQ"))
    hdus.append(fits.BinTableHDU(table, name="ALIGNMENT"))
    hdus.writeto(tmp_path / "stack.fits")
    read = read_stack(tmp_path / "stack.fits")
    assert read.noise_correlation == 1.25
    assert list(read.mappings) == list(perfect.mappings)
    reported = _values(perfect, truth)
    reported["VAR pull"] /= 1.25
    assert _values(read, truth) == pytest.approx(reported, rel=1e-4, abs=1e-4)
    hdus.pop()
    hdus.writeto(tmp_path / "bare.fits")
    with pytest.raises(FrameError, match="ALIGNMENT"):
        read_stack(tmp_path / "bare.fits")

"""The floor: the best stack that a night allows scores 1, and each shortcoming shows in its own figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.wcs import WCS
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.ndimage import gaussian_filter

from imaging.figures import flat_values
from imaging.simulator.floor.best_stack import (
    BestStack,
    best_stack,
    frame_variance,
    model_of,
    placed,
    point_source_weights,
)
from imaging.simulator.floor.score_floor import (
    SIGMA_ERROR,
    expected_scatter,
    of_frames,
    scaled_lights,
    score_floor,
    star_rows,
)
from imaging.simulator.floor.star_fluxes import StarFluxes, _empty_places, _measured, linear_limit
from imaging.simulator.measure_stars import pairwise_sigma
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.f2_nights import SKY_SCALE
from imaging.simulator.simulate import simulate_night
from imaging.simulator.stack_model import Grid, StackProduct
from imaging.simulator.star_field import FIELD, pixel_position
from imaging.simulator.truth import NightTruth

SIZE, PAD = 384, 50
SHAPE = (SIZE + 2 * PAD, SIZE + 2 * PAD)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> NightTruth:
    night = NightParameters(
        size=SIZE, band="J", seed=3, n_science=5, n_darks=0, n_short_darks=2, n_lamp_on=1, n_lamp_off=1, n_stars=250,
        n_faint=0, n_galaxies=0, turn=1.5, seeing_course=(0.6, 1.2), transparency_course=(1.0, 0.5),
    )  # fmt: skip
    return simulate_night(tmp_path_factory.mktemp("floor"), night)


def _wcs(origin: tuple[float, float]) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], list(FIELD)
    wcs.wcs.cd = np.array([[0.0, SKY_SCALE], [SKY_SCALE, 0.0]]) / 3600
    wcs.wcs.crpix = [origin[0] + 1, origin[1] + 1]
    return wcs


@pytest.fixture(scope="module")
def grid(truth: NightTruth) -> Grid:
    centre = truth.science[1].field_centre
    assert centre is not None
    return Grid((centre[0] + PAD, centre[1] + PAD), NightParameters().axes)


@pytest.fixture(scope="module")
def best(truth: NightTruth, grid: Grid) -> StackProduct:
    """The best stack, scaled to its second frame: the model, with noise by the floor."""
    home = truth.science[1]
    light = home.throughput * home.exposure
    floor = best_stack(truth, truth.science, grid, SHAPE, light=light)
    model = model_of(
        truth, truth.science, grid, SHAPE, lights=point_source_weights(truth, truth.science) * light
    )
    var = floor.variance + np.float32(floor.photons) * model
    noise = np.random.default_rng(4).normal(size=SHAPE).astype(np.float32)
    dq = np.where(floor.count == 0, 16, 0).astype(np.uint16)
    mappings = {f.root: np.zeros(2) for f in truth.science}
    return StackProduct(model + noise * np.sqrt(var), var, dq, _wcs(grid.origin), home.root, 1.0, mappings)


def _figures(product: StackProduct, truth: NightTruth) -> dict[str, float]:
    weights = dict(
        zip((f.root for f in truth.science), point_source_weights(truth, truth.science), strict=True)
    )
    scales = {f.root: 1 / f.throughput for f in truth.science}
    return {row.figure: row.value for row in score_floor(product, truth, weights=weights, scales=scales)}


def test_the_best_stack_is_at_the_floor(truth: NightTruth, best: StackProduct) -> None:
    rows = score_floor(
        best, truth, scales={f.root: 1 / f.throughput for f in truth.science},
        weights={f.root: w for f, w in zip(truth.science, point_source_weights(truth, truth.science), strict=True)},
    )  # fmt: skip
    assert [row.figure for row in rows if row.ok is False] == []
    values = {row.figure: row.value for row in rows}
    assert values["stars"] > 20
    assert values["blocks / floor"] == pytest.approx(1.0, abs=0.35)
    assert values["blank / VAR"] == pytest.approx(1.0, abs=0.3)


def test_each_shortcoming_shows_in_its_figure(truth: NightTruth, best: StackProduct) -> None:
    right = _figures(best, truth)
    brighter = _figures(replace(best, sci=1.05 * best.sci), truth)
    assert brighter["flux bias"] - right["flux bias"] == pytest.approx(5.0, abs=0.2)
    rng = np.random.default_rng(8)
    uneven = gaussian_filter(rng.normal(size=SHAPE), 40).astype(np.float32)
    wavy = _figures(replace(best, sci=best.sci + 6 * uneven / uneven.std()), truth)
    assert wavy["blocks / floor"] > 2 * right["blocks / floor"]
    boastful = _figures(replace(best, var=best.var / 4), truth)
    for figure in ("pull", "faint / VAR", "blank / VAR"):
        assert boastful[figure] == pytest.approx(2 * right[figure], rel=1e-3)
    noisy = _figures(replace(best, sci=best.sci + 2 * rng.normal(size=SHAPE) * np.sqrt(best.var)), truth)
    assert noisy["scatter / floor"] > 1.4 * right["scatter / floor"]


def test_weights_follow_the_signal_to_noise_of_a_point_source(truth: NightTruth) -> None:
    weights = point_source_weights(truth, truth.science)
    assert weights.sum() == pytest.approx(1.0)
    assert all(f.fwhm for f in truth.science)
    merit = np.array([f.transparency / (f.fwhm or 1) for f in truth.science]) ** 2
    levels = np.array([f.level for f in truth.science])
    assert weights / weights.max() == pytest.approx((merit / levels) / (merit / levels).max(), rel=0.02)


def test_the_truth_has_the_scale_of_the_reference(truth: NightTruth) -> None:
    frames, home = truth.science, truth.science[2]
    own = [f.throughput * f.exposure for f in frames]
    assert scaled_lights(truth, frames, home.root, None) == pytest.approx(own)
    assert scaled_lights(truth, frames, home.root, {f.root: 1.0 for f in frames}) == pytest.approx(own)
    scaled = scaled_lights(truth, frames, home.root, {f.root: 1 / f.throughput for f in frames})
    assert scaled == pytest.approx([home.throughput * home.exposure] * len(frames))


def test_frames_are_placed_where_their_stars_are(truth: NightTruth, grid: Grid) -> None:
    stars = truth.sources[truth.sources["kind"] == "bright"]
    for frame in truth.science:
        assert frame.pointing is not None
        x, y = pixel_position(stars, frame.pointing, SIZE, NightParameters().axes, frame.disturbance.rotation)
        marked = np.zeros((SIZE, SIZE), np.float32)
        for i, (column, row) in enumerate(zip(x, y, strict=True)):
            if 2 < column < SIZE - 3 and 2 < row < SIZE - 3:
                marked[round(row) - 1 : round(row) + 2, round(column) - 1 : round(column) + 2] = i + 1
        there = placed(marked, frame, grid, SHAPE)
        u, v = grid.position(stars)
        found = [there[round(b), round(a)] for a, b in zip(u, v, strict=True)]
        expected = [
            marked[round(b), round(a)] if 2 < a < SIZE - 3 and 2 < b < SIZE - 3 else 0
            for a, b in zip(x, y, strict=True)
        ]
        assert found == expected


def test_pixels_lost_to_a_disturbance_are_not_in_the_floor(tmp_path: Path) -> None:
    counts = {"n_science": 2, "n_darks": 0, "n_short_darks": 2, "n_lamp_on": 1, "n_lamp_off": 1}
    night = simulate_night(tmp_path, NightParameters(size=128, seed=2, half_unread=1, **counts))
    first, second = (frame_variance(night, frame)[1] for frame in night.science)
    assert first[64:].mean() > 0.5
    assert not second[64:].any()
    assert np.array_equal(first[:64], second[:64])


def test_the_linear_limit_is_that_of_the_sharpest_clearest_frame(truth: NightTruth) -> None:
    limits = [linear_limit(truth, [frame]) for frame in truth.science]
    assert linear_limit(truth, truth.science) == min(limits)
    peaks = [f.throughput / (f.fwhm or 1) ** 2 for f in truth.science]
    assert int(np.argmin(limits)) == int(np.argmax(peaks))


def test_the_expected_scatter_of_equal_noise_is_that_noise() -> None:
    noise: NDArray[np.float64] = np.full(400, 0.02)
    width, error = expected_scatter(noise)
    assert width == pytest.approx(0.02, rel=0.02)
    assert error == pytest.approx(1.166 / np.sqrt(400), rel=0.25)


def test_stars_on_flagged_pixels_are_missed(truth: NightTruth, best: StackProduct) -> None:
    flagged = best.dq.copy()
    flagged[: SHAPE[0] // 2] |= 1
    rows = {row.figure: row for row in score_floor(replace(best, dq=flagged), truth)}
    assert rows["stars measured"].value < 80
    assert rows["stars measured"].ok is False


def test_figures_of_frames_are_found_in_a_record() -> None:
    metrics = flat_values(Recorded(weights={"S1.fits": 0.25, "S2.fits": 0.75}, scales={"S1.fits": 1.0}))
    assert of_frames(metrics, "weights") == {"S1.fits": 0.25, "S2.fits": 0.75}
    assert of_frames(metrics, "scales") == {"S1.fits": 1.0}
    assert of_frames({"weightsum": 2.0, "weights": 1.0}, "weights") == {}


class Recorded(BaseModel):
    """Figures as a stack has them."""

    weights: dict[str, float]
    scales: dict[str, float]


def test_fluxes_of_frames_scaled_by_stars_have_the_error_of_the_reference_in_common() -> None:
    true = np.full(40, 1e5)
    noise = np.full(40, 50.0)
    errors = np.random.default_rng(3).normal(0, 50, 40)
    stars = StarFluxes(
        flux=1.006 * true + errors, true=true, floor=noise, stated=noise, saturated=np.zeros(40, bool)
    )
    alone, scaled = (
        next(row for row in star_rows(stars, scale_error=error) if row.figure == "flux bias")
        for error in (0.0, 0.004)
    )
    assert (alone.high, alone.ok) == (0.3, False)
    assert scaled.high == pytest.approx(0.8, abs=0.01)
    assert scaled.ok


def test_a_true_variance_gives_1_in_blank_apertures() -> None:
    size, rng = 1000, np.random.default_rng(6)
    model, var = np.zeros((size, size), np.float32), np.full((size, size), 25.0**2, np.float32)
    good = np.ones((size, size), bool)
    best = BestStack(var, np.full((size, size), 9, np.uint16), 0.1)
    x, y = _empty_places(model, best, good)
    assert len(x) > 200
    assert max(x.max(), y.max()) < size - 30
    pulls = []
    for _ in range(4):
        noise = rng.normal(0, 25.0, (size, size)).astype(np.float32)
        pulls.append(np.divide(*_measured(noise, var, 1.0, x, y)))
    assert pairwise_sigma(np.concatenate(pulls)) == pytest.approx(
        1.0, abs=3 * SIGMA_ERROR / np.sqrt(4 * len(x))
    )
    model[500:, :] = 30.0
    assert _empty_places(model, best, good)[1].max() < 500

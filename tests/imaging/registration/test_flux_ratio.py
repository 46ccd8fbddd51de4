"""The ratio of the fluxes of two frames' stars: unbiased by the background, outliers removed, with its error."""

import numpy as np
import pytest

from imaging.registration.flux_ratio import fainter_pairs, flux_ratio
from imaging.registration.geometry import Affine
from imaging.simulator.star_field import add_stars
from imaging.sources.detect import CATALOGUE, detect


def catalogue(flux, error):
    table = np.zeros(len(flux), CATALOGUE)
    table["flux"], table["flux_err"], table["snr"] = flux, error, flux / error
    return table


def pair(rng, n, ratio, *, offset=0.0):
    true = 10 ** rng.uniform(4.3, 6.0, n)
    one, other = true * ratio + offset, true
    errors = np.sqrt(true + 500.0**2)
    return catalogue(one + rng.normal(0, errors), errors), catalogue(other + rng.normal(0, errors), errors)


def test_the_error_is_that_of_the_ratio_and_a_background_does_not_bias_it():
    pulls = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found = flux_ratio(*pair(rng, 40, 0.6, offset=800.0))
        assert found.error < 0.01
        pulls.append((found.ratio / 0.6 - 1) / found.error)
    assert abs(np.mean(pulls)) < 0.4
    assert np.std(pulls) < 1.3


def test_variables_and_blends_do_not_count():
    rng = np.random.default_rng(1)
    stars, others = pair(rng, 30, 0.8)
    stars["flux"][:5] *= 1.7
    found = flux_ratio(stars, others)
    assert found.ratio == pytest.approx(0.8, rel=0.01)
    assert found.stars <= 25


def test_few_stars_give_a_median_and_two_no_error():
    rng = np.random.default_rng(2)
    assert flux_ratio(*pair(rng, 4, 0.7)).ratio == pytest.approx(0.7, rel=0.05)
    assert flux_ratio(*pair(rng, 2, 0.7)).error is None


def test_the_light_of_neighbours_does_not_count():
    rng = np.random.default_rng(3)
    stars, others = pair(rng, 60, 0.7)
    for table, part in ((stars, 0.03), (others, 0.01)):
        table["neighbours"] = part * table["flux"] * (np.arange(60) % 2)
        table["flux"] += table["neighbours"]
    assert flux_ratio(stars, others).ratio == pytest.approx(0.7, rel=0.003)
    # Stars with much of it are not used.
    stars["neighbours"][:20] = 0.5 * stars["flux"][:20]
    assert flux_ratio(stars, others).stars <= 40


def test_fainter_stars_are_paired_by_the_transform():
    rng = np.random.default_rng(4)
    n = 1000
    true = np.sort(10 ** rng.uniform(3, 6, n))[::-1]
    stars, others = (catalogue(true, np.sqrt(true + 100.0**2)) for _ in range(2))
    places = rng.permutation(n)
    for table, shift in ((stars, (0.0, 0.0)), (others, (12.0, -3.0))):
        table["x"], table["y"] = 20.0 * (places % 40) + shift[0], 20.0 * (places // 40) + shift[1]
    stars["flags"][::7] = 1
    a, b = fainter_pairs(stars, others, Affine.shift(12.0, -3.0), 3e5, 1.5)
    assert 100 < len(a) <= 300
    assert (a["flux"] == b["flux"]).all()
    assert (a["flags"] == 0).all()
    assert a["flux"].max() < 3e5
    assert a["snr"].min() > 30
    assert np.median(a["flux"]) < 1e5
    assert len(fainter_pairs(stars[:5], others, Affine.shift(12.0, -3.0), 1.0, 1.5)[0]) == 0


def test_the_ratio_in_a_crowded_field_does_not_follow_the_seeing():
    """One star in 210 px: the brightest alone give larger errors."""
    errors, of_brightest = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        n, size = 1250, 512
        x, y = rng.uniform(0, size, (2, n))
        flux = (1.2e3**-0.25 + rng.uniform(size=n) * (3e6**-0.25 - 1.2e3**-0.25)) ** -4.0
        seen = []
        for fwhm in (3.9, 4.3):
            sci = np.zeros((size, size), np.float32)
            add_stars(sci, x, y, flux, fwhm=fwhm, beta=3.5, level=0.02)
            sci += rng.normal(0, np.sqrt(sci + 75.0**2)).astype(np.float32)
            seen.append(detect(sci, np.zeros(sci.shape, np.uint16)).catalogue)
        clean = [table[table["flags"] == 0][:15] for table in seen]
        a, b = fainter_pairs(*clean, Affine(), np.inf, 1.5)
        faint = fainter_pairs(*seen, Affine(), float(clean[0]["flux"].min()), 1.5)
        found = flux_ratio(*(np.concatenate(part) for part in zip((a, b), faint, strict=True)))
        errors.append((found.ratio - 1) / found.error)
        of_brightest.append(flux_ratio(a, b).error / found.error)
        assert found.error < 0.004
    assert np.abs(errors).max() < 2.5
    assert min(of_brightest) > 2

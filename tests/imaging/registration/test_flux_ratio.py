"""The ratio of the fluxes of two frames' stars: unbiased by the background, outliers removed, with its error."""

import numpy as np
import pytest

from imaging.registration.flux_ratio import flux_ratio
from imaging.sources.detect import CATALOGUE


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

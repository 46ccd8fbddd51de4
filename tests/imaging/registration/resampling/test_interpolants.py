"""Interpolants: the polynomials that the kernels evaluate are the weights."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.registration.resampling.interpolants import TAPS, weight_polynomials, weights


@pytest.mark.parametrize("name", [name for name in TAPS if name != "nearest"])
def test_polynomials_give_the_weights_to_single_precision(name):
    even, odd = weight_polynomials(name)
    fraction = np.linspace(0, 1, 2001)[:-1]
    t = fraction - 0.5
    powers = np.vander(t**2, even.shape[1], increasing=True)
    e, o = powers @ even.T.astype(float), (powers @ odd.T.astype(float)) * t[:, None]
    found = np.concatenate([e + o, (e - o)[:, ::-1]], axis=1)
    assert np.abs(found - weights(name, fraction)).max() < 5e-7
    assert not even.flags.writeable


def test_nearest_is_linear_at_both_ends():
    for one, other in zip(weight_polynomials("nearest"), weight_polynomials("linear"), strict=True):
        assert (one == other).all()

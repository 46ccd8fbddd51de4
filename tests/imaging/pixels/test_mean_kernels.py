"""Means without rejection: those of the kernel for all operations, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.pixels.combine import CombineParameters, RunningMean, combine
from imaging.pixels.dq import DQ


@pytest.mark.parametrize("n", [1, 2, 7, 40])
@pytest.mark.parametrize("operation", ["mean", "wmean"])
def test_the_pixels_are_those_of_the_other_kernel(n, operation):
    rng = np.random.default_rng(n)
    shape = (n, 5, 307)
    sci, var = rng.normal(0, 10, shape).astype(np.float32), rng.uniform(1, 2, shape).astype(np.float32)
    bits = rng.choice([int(bit) for bit in DQ], shape).astype(np.uint16)
    dq = np.where(rng.random(shape) < 0.1, bits, np.uint16(0))
    sci[rng.random(shape) < 0.01], var[rng.random(shape) < 0.01] = np.nan, np.inf
    dq[:, 1, :40], sci[:, 2, 7], dq[:, 3, 5] = DQ.NO_DATA, np.nan, DQ.COSMIC_RAY
    weights = rng.uniform(0.5, 2, n) if operation == "wmean" else None
    how = CombineParameters(operation=operation, reject="none")
    found = combine(sci, var, dq, how, weights=weights)
    # A scale takes the other path.
    expected = combine(sci, var, dq, how, weights=weights, scale=np.ones(n))
    for plane, other in zip(found, expected, strict=True):
        assert np.array_equal(plane, other)
    assert (found.count < n).any()
    assert (found.sci[2, 7], found.var[2, 7], found.count[2, 7]) == (0, 0, 0)


def test_the_mean_of_what_was_added_until_now():
    mean = RunningMean((2, 3))
    ones, good = np.ones((2, 3), np.float32), np.zeros((2, 3), np.uint16)
    mean.add(ones, ones, good)
    before = mean.result()
    mean.add(4 * ones, ones, good, 0.5)
    assert np.array_equal(mean.result().sci, 2 * ones)
    assert np.array_equal(before.count, np.ones((2, 3), np.uint16))


@pytest.mark.parametrize(
    ("shape", "dtype", "weight"),
    [((1, 3), "f4", 1.0), ((2, 3), "f8", 1.0), ((2, 3), "f4", 0.0), ((2, 3), "f4", np.inf)],
)
def test_an_input_that_does_not_fit_is_refused(shape, dtype, weight):
    plane = np.ones(shape, dtype)
    with pytest.raises(ValueError, match=r"must be|are needed"):
        RunningMean((2, 3)).add(plane, plane, np.zeros(shape, np.uint16), weight)

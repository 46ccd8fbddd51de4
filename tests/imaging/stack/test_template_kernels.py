"""The template's medians are those of numpy, for few frames and for many, in any part of a band."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.pixels.dq import DQ
from imaging.stack.template_kernels import FEW, NOT_LINEAR, PARTIAL, median_difference, take_median

FEWEST = 3


def frames(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return values and quality of ``n`` frames, (n, 6, 75); column 7 has no value, column 8 those of two frames."""
    random = np.random.default_rng(seed)
    sci = random.normal(0, 30, (n, 6, 75)).astype(np.float32)
    sci[:, :, :5] = np.round(sci[:, :, :5], -1)  # equal values
    dq = np.where(random.random(sci.shape) < 0.1, DQ.NO_DATA, 0).astype(np.uint16)
    dq[random.random(sci.shape) < 0.02] |= np.uint16(DQ.SATURATED)
    dq[:, :, 7] = DQ.NO_DATA
    dq[2:, :, 8] = DQ.UNILLUMINATED
    dq[:2, :, 8] = 0
    return sci, dq


def expected_median(sci: np.ndarray, dq: np.ndarray, sharp: int) -> np.ndarray:
    """Return the median of the sharpest frames with a value, or of the first three with one; of fewer, the lowest."""
    out = np.zeros(sci.shape[1:], np.float32)
    for place in np.ndindex(out.shape):
        good = (dq[(slice(None), *place)] & (DQ.NO_DATA | DQ.UNILLUMINATED)) == 0
        values = sci[(slice(None), *place)]
        chosen = values[:sharp][good[:sharp]]
        if len(chosen) < FEWEST:
            chosen = values[good][:FEWEST]
        if len(chosen):
            out[place] = np.median(chosen) if len(chosen) >= FEWEST else chosen.min()
    return out


@pytest.mark.parametrize(("n", "sharp"), [(3, 3), (9, 5), (40, 40), (255, 255), (256, 256), (300, 290)])
@pytest.mark.parametrize("first", [0, 2])
def test_the_median_of_the_sharpest_frames(n: int, sharp: int, first: int) -> None:
    sci, dq = frames(n, n)
    median, suspect = np.full(sci.shape[1:], -1, np.float32), np.full(sci.shape[1:], 99, np.uint8)
    take_median(sci, dq, sharp, FEWEST, first, 5, median, suspect)
    np.testing.assert_array_equal(median[first:5], expected_median(sci, dq, sharp)[first:5])
    assert (median[5:] == -1).all()
    assert (median[:first] == -1).all()
    bits = suspect[first:5]
    number = ((dq[:sharp] & (DQ.NO_DATA | DQ.UNILLUMINATED)) == 0).sum(axis=0)[first:5]
    beyond = ((dq[:sharp] & DQ.SATURATED) > 0).sum(axis=0)[first:5]
    np.testing.assert_array_equal((bits & NOT_LINEAR) > 0, beyond > 1)
    np.testing.assert_array_equal((bits & PARTIAL) > 0, (number < sharp) & (sharp < n))
    total = ((dq & (DQ.NO_DATA | DQ.UNILLUMINATED)) == 0).sum(axis=0)[first:5]
    np.testing.assert_array_equal((bits & FEW) > 0, total < FEWEST)


@pytest.mark.parametrize(("n", "sharp"), [(9, 5), (60, 60), (300, 290)])
def test_the_median_of_the_differences_is_added_under_sources(n: int, sharp: int) -> None:
    difference, dq = frames(n, n + 1)
    random = np.random.default_rng(n)
    kinds = random.integers(0, 3, difference.shape[1:]).astype(np.uint8)
    suspect = random.integers(0, 8, difference.shape[1:]).astype(np.uint8)
    before = random.normal(0, 100, kinds.shape).astype(np.float32)
    usable = ((dq & (DQ.NO_DATA | DQ.UNILLUMINATED)) == 0).sum(axis=0) >= FEWEST
    added = expected_median(difference, dq, sharp)
    for chosen in (0, PARTIAL):
        out = before.copy()
        median_difference(difference, dq, kinds, suspect, sharp, FEWEST, chosen, 1, 5, out)
        changed = usable & (kinds > 0) & ((suspect & chosen) > 0 if chosen else True)
        changed[[0, 5]] = False
        np.testing.assert_array_equal(out[~changed], before[~changed])
        np.testing.assert_allclose(out[changed], (before + added)[changed], rtol=1e-6)

"""The smooth background of a single frame: subtracted to the noise, with the noise of dark and flat in VAR."""

import numpy as np
import pytest

from imaging.pixels.dq import DQ
from imaging.sky.own_background import subtract_own_background

SHAPE = (256, 320)


def single(seed, *, slope=0.3, dark=4.0, flat=2e-5):
    """A detrended frame of a sloping sky of 3000 e-, with the noise of its dark and flat."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sky = 3000.0 + slope * x - slope * y
    var = sky + 25.0
    sci = sky + rng.normal(0, np.sqrt(var + dark + flat * sky**2))
    return sci.astype(np.float32), var.astype(np.float32), np.zeros(SHAPE, np.uint16)


def plane(value):
    return np.full(SHAPE, value, np.float32)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_left_is_noise_and_var_says_how_much(seed):
    sci, var, dq = single(seed)
    metrics = subtract_own_background(
        "a",
        sci,
        var,
        dq,
        mask=None,
        cell=64,
        level=3000.0,
        dark_variance=plane(4.0),
        flat_variance=plane(2e-5),
    )
    assert np.median(sci) == pytest.approx(0.0, abs=2.0)  # of a noise of 57
    blocks = sci.reshape(8, 32, 10, 32).mean(axis=(1, 3))
    assert np.std(blocks) < 4.0  # of which noise 1.8; with the slope 30
    assert np.std(sci) ** 2 / np.mean(var) == pytest.approx(1.0, abs=0.03)
    assert metrics.sky_frames == ()
    assert metrics.level == 3000.0
    assert metrics.residual_rms < 5.0  # the noise of medians of 512 pixels is 3.1


def test_masked_sources_keep_their_light_and_missing_pixels_their_zero():
    sci, _, dq = single(4)
    mask = np.zeros(SHAPE, np.uint8)
    mask[100:140, 100:140] = 1
    sci[100:140, 100:140] += 500
    dq[:10], sci[:10] = DQ.NO_DATA, 0.0
    subtract_own_background("a", sci, None, dq, mask=mask, cell=64, level=3000.0)
    assert np.median(sci[100:140, 100:140]) == pytest.approx(500, abs=10)
    assert not sci[:10].any()


def test_a_mask_over_everything_is_refused():
    sci, var, dq = single(5)
    with pytest.raises(ValueError, match="no part of the frame has enough good pixels"):
        subtract_own_background("a", sci, var, dq, mask=np.ones(SHAPE, np.uint8), cell=64, level=3000.0)

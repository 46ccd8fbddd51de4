"""Rows that are not where the flat has them: found wherever they begin, and not on frames in place."""

import numpy as np
import pytest

from imaging.detrend.rows_in_place import ROW_STEP, SUMS, displaced_rows, sum_rows

SHAPE = (512, 512)


def sums_of(sci, var, dq, flat, flat_var):
    out = np.zeros((-(-len(sci) // ROW_STEP), SUMS))
    sum_rows(*(np.ascontiguousarray(p[::ROW_STEP]) for p in (sci, var, dq, flat, flat_var)), out)
    return out


def frame(rng, *, level=5400.0, rms=0.01, flat_noise=0.002, colour=0.0, change=None):
    """Return a frame divided by a measured flat; ``change`` displaces raw pixels."""
    response = (1 + rms * rng.standard_normal(SHAPE)).astype(np.float32)
    flat = (response * (1 + flat_noise * rng.standard_normal(SHAPE))).astype(np.float32)
    other = response * (1 + colour * rms * rng.standard_normal(SHAPE))
    light = np.full(SHAPE, level)
    y, x = np.indices(SHAPE)
    light += 3000 * level * 0.01 * np.exp(-((x - 200) ** 2 + (y - 300) ** 2) / 50)  # a bright star
    raw = light * other
    raw += np.sqrt(raw + 100) * rng.standard_normal(SHAPE)
    if change is not None:
        raw = change(raw)
    dq = np.zeros(SHAPE, np.uint16)
    dq[rng.random(SHAPE) < 0.01] = 1
    return (
        (raw / flat).astype(np.float32), ((raw.clip(0) + 100) / flat**2).astype(np.float32), dq, flat,
        np.full(SHAPE, flat_noise**2, np.float32),
    )  # fmt: skip


def shifted(by, first):
    def change(raw):
        flat = raw.copy().reshape(-1)
        flat[first * SHAPE[1] :] = np.roll(flat[first * SHAPE[1] :], by)
        return flat.reshape(SHAPE)

    return change


def doubled(row):
    return lambda raw: np.concatenate([raw[: row + 1], raw[row:-1]])


@pytest.mark.parametrize(
    ("change", "first"),
    [(shifted(1, 1), 0), (shifted(257, 300), 300), (shifted(511, 440), 440), (doubled(100), 100)],
    ids=["by one pixel", "from the middle", "the last rows", "a row twice"],
)
@pytest.mark.parametrize("level", [450.0, 5400.0])
def test_displaced_rows_are_found(change, first, level):
    found = displaced_rows(sums_of(*frame(np.random.default_rng(5), level=level, change=change)), 0.5)
    assert found is not None
    assert abs(found.first - first) <= 24
    assert found.last == SHAPE[0] - 1
    neighbours = (
        0.5 if change(np.eye(*SHAPE))[200, 201] else 0.0
    )  # of a shift by one pixel the pattern has a half
    assert found.share == pytest.approx(1.0 + neighbours, abs=max(0.1, 4 * found.error))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    "night",
    [
        {},
        {"level": 40.0},
        {"flat_noise": 0.01},  # the noise of the flat is as large as its pattern
        {"rms": 0.0005, "flat_noise": 0.005},  # it has no other pattern
        {"colour": 0.3},
    ],
)
def test_frames_in_place_pass(seed, night):
    assert displaced_rows(sums_of(*frame(np.random.default_rng(seed), **night)), 0.5) is None


def test_rows_without_a_usable_pixel_say_nothing():
    sci, var, dq, flat, noise = frame(np.random.default_rng(1), change=shifted(9, 1))
    dq[:] = 1
    assert displaced_rows(sums_of(sci, var, dq, flat, noise), 0.5) is None


def test_the_limit_is_a_parameter():
    sums = sums_of(*frame(np.random.default_rng(1), change=shifted(9, 1)))
    assert displaced_rows(sums, 2.0) is None

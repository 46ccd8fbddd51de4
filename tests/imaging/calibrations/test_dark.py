"""The master dark of a simulated detector: level, noise, variance, outliers, odd frames, memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from imaging.calibrations import raw_stack as rawstack
from imaging.calibrations.dark import DarkParameters, make_dark
from imaging.errors import GroupError
from imaging.pixels.combine import median_factor


@pytest.fixture
def current():
    """Electrons of dark current: usual pixels, warm ones and two hot ones."""
    rng = np.random.default_rng(4)
    plane = rng.normal(37, 6, (192, 160)).clip(5)
    plane[rng.random(plane.shape) < 0.02] = 700
    plane[3, 5] = plane[100, 9] = 9000
    return plane


@pytest.mark.parametrize("n", [3, 4, 10])
@pytest.mark.parametrize("operation", ["mean", "median"])
def test_level_is_true_and_variance_is_the_scatter(expose, current, n, operation):
    frames = expose(current, n, shape=current.shape)
    result = make_dark(frames, DarkParameters(operation=operation))
    difference = result.image.sci - (current + 65)
    usual = current < 100
    pull = difference / np.sqrt(result.image.var)
    assert pull[usual].std() == pytest.approx(1, abs=0.06)
    assert pull[~usual].std() == pytest.approx(1, abs=0.15)
    assert abs(difference[usual].mean()) < 0.2
    assert result.pedestal == pytest.approx(65, abs=2)
    assert result.image.header["PEDESTAL"] == pytest.approx(result.pedestal, abs=1e-3)
    assert result.image.unit == "electron"
    factor = median_factor(n) if operation == "median" else 1
    assert np.median(result.image.var[usual]) == pytest.approx((25 + 37) / n * factor, rel=0.06)


def test_metrics_describe_the_combination(expose, current):
    frames = expose(current, 5, shape=current.shape)
    got = make_dark(frames).metrics
    assert got.n_frames == 5
    assert got.level == pytest.approx(102, abs=1)
    assert got.n_hot == 2
    assert got.read_noise == 5.0
    assert got.scatter == pytest.approx((25 + 37) ** 0.5, rel=0.03)
    assert got.noise == pytest.approx((62 / 5) ** 0.5, rel=0.03)
    assert 0 < got.rejected < 0.02
    assert "pedestal" in got.variance_from


def test_taking_the_pedestal_for_light_would_overestimate_the_noise(expose, current):
    """What the default avoids: the pull that reduction without a pedestal has."""
    frames = expose(current, 4, shape=current.shape)
    result = make_dark(frames, DarkParameters(pedestal=0.0))
    pull = (result.image.sci - (current + 65)) / np.sqrt(result.image.var)
    assert pull[current < 100].std() < 0.8
    assert result.pedestal == 0
    assert result.metrics.pedestal.value == pytest.approx(65, abs=2)


@pytest.mark.parametrize("n", [4, 10])
def test_cosmic_rays_go(expose, current, n):
    frames = expose(current, n, shape=current.shape)
    rng = np.random.default_rng(6)
    hits = []
    for frame in frames:
        hit = rng.random(current.shape) < 2e-3
        frame.adu[hit] += rng.integers(150, 9000, hit.sum())
        hits.append(hit)
    once = np.sum(hits, axis=0) == 1
    result = make_dark(frames)
    pull = (result.image.sci - (current + 65)) / np.sqrt(result.image.var)
    assert once.sum() > 100
    assert np.abs(pull[once & (current < 100)]).max() < 6


def test_odd_frames_are_named(expose, current):
    frames = expose(20.0, 3) + expose(20.0, 1, seed=7, LNRS=4, NREADS=4)
    with pytest.raises(GroupError, match="S20131120S0700"):
        make_dark(frames)
    with pytest.raises(GroupError, match="3 are needed"):
        make_dark(frames[:2])
    assert make_dark(frames[:2], DarkParameters(min_frames=2)).metrics.n_frames == 2


def test_frames_are_read_once_and_bands_and_threads_do_not_change_a_bit(expose, current):
    results = []
    for threads, memory in ((1, 2**30), (2, 2**30), (2, 3_000_000), (1, 200_000)):
        frames = expose(current, 4, shape=current.shape)
        results.append(make_dark(frames, threads=threads, memory=memory).image)
        for frame in frames:
            if memory == 2**30:
                np.testing.assert_array_equal(frame.reads, 1)
            else:  # no room to keep the sample that the pedestal is measured from
                assert set(frame.reads) <= {1, 2}
    for other in results[1:]:
        for plane in ("sci", "var", "dq"):
            assert getattr(other, plane).tobytes() == getattr(results[0], plane).tobytes()


def test_memory_does_not_grow_with_the_number_of_darks(expose, monkeypatch):
    """Numpy's memory is traced; the frames themselves are made before."""
    monkeypatch.setattr(
        rawstack, "_SAMPLE_PIXELS", 200_000
    )  # as many as 33 full-size frames would be held to

    def peak(n: int) -> int:
        frames = expose(40.0, n, shape=(512, 256))
        tracemalloc.start()
        make_dark(frames, memory=4 * 2**20, threads=2)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(3)  # warm: kernels, caches
    planes = 512 * 256 * (4 + 4 + 2)
    small, large = peak(6), peak(24)
    assert small < planes + 6 * 2**20
    assert large < small + 2**20


def test_inputs_are_not_changed(expose, current):
    frames = expose(current, 3, shape=current.shape)
    before = [frame.adu.copy() for frame in frames]
    header = frames[0].extension.copy()
    make_dark(frames)
    for frame, adu in zip(frames, before, strict=True):
        np.testing.assert_array_equal(frame.adu, adu)
    assert frames[0].extension == header


def test_unmeasurable_pedestal_causes_a_warning(expose):
    frames = expose(20.0, 3)
    for frame in frames[1:]:
        frame.adu[:] = frames[0].adu
    result = make_dark(frames)
    assert result.pedestal == 0
    assert any("pedestal" in warning and "copies" in warning for warning in result.warnings)


@pytest.mark.parametrize("value", [0, np.nan])
def test_an_unread_quadrant_takes_no_part(expose, current, value):
    frames = expose(current, 6, shape=current.shape)
    whole = make_dark(frames)
    frames[2].adu = frames[2].adu.astype(np.float32)
    frames[2].adu[96:, :80] = value
    result = make_dark(frames)
    lost = np.zeros(current.shape, bool)
    lost[96:, :80] = True
    assert not result.left_out
    assert result.pedestal == pytest.approx(whole.pedestal, abs=1)
    assert (result.image.dq[lost] == whole.image.dq[lost]).mean() > 0.99
    usual = current < 100
    difference = result.image.sci - (current + 65)
    assert abs(difference[usual & lost].mean()) < 0.3
    ratio = result.image.var / whole.image.var
    assert np.median(ratio[usual & lost]) == pytest.approx(6 / 5, rel=0.05)
    assert np.median(ratio[usual & ~lost]) == pytest.approx(1, rel=0.05)

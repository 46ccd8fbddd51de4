"""Resampling: what goes in comes out - flux, place, constant, variance - and bad pixels do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from paths_of_frames import follow
from scipy import ndimage

from imaging.pixels.dq import DQ
from imaging.pixels.fill import HOPELESS, NOT_MEASURED, fill_gaps, find_gaps
from imaging.registration.distortion.camera_distortion import Distortion, path_of
from imaging.registration.geometry import Affine, make_grid
from imaging.registration.resampling.interpolants import TAPS, mean_squared_weights, weights
from imaging.registration.resampling.resample import (
    ResampleParameters,
    array_source,
    input_rows_needed,
    resample_into,
    resample_rows,
)
from imaging.sources.measure import windowed_moments

NAMES = list(TAPS)
TURN = Affine(np.cos(0.02), -np.sin(0.02), np.sin(0.02), np.cos(0.02), 3.3, -1.7)


def run(sci, transform, *, var=None, dq=None, shape=None, band=None, parameters=None, distortion=None):
    """Resample a complete frame, in bands of ``band`` rows."""
    sci = np.asarray(sci, np.float32)
    var = np.ones_like(sci) if var is None else np.asarray(var, np.float32)
    dq = np.zeros(sci.shape, np.uint16) if dq is None else dq
    ny, nx = shape or sci.shape
    source, band = array_source(sci, var, dq), band or ny
    parts = [
        resample_rows(source, sci.shape, transform, slice(y, min(y + band, ny)), nx, parameters, distortion)
        for y in range(0, ny, band)
    ]
    return tuple(np.concatenate(planes) for planes in zip(*parts, strict=True))


def star(x0, y0, sigma=1.7, shape=(60, 60)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return 1e4 * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / sigma**2)


def centroid(image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return (image * x).sum() / image.sum(), (image * y).sum() / image.sum()


@pytest.mark.parametrize("name", NAMES)
def test_weights_sum_to_one_and_are_one_on_a_pixel(name):
    fractions = np.linspace(0, 0.999, 57)
    w = weights(name, fractions)
    assert w.shape == (57, TAPS[name])
    assert w.sum(axis=1) == pytest.approx(np.ones(57), abs=1e-14)
    assert w[0, TAPS[name] // 2 - 1] == pytest.approx(1)
    mirrored = weights(name, 1 - fractions[1:])[:, ::-1]
    if name != "nearest":
        assert w[1:] == pytest.approx(mirrored, abs=1e-12)


@given(dx=st.floats(-8, 8), dy=st.floats(-8, 8), name=st.sampled_from(NAMES[:4]))
@settings(max_examples=60)
def test_flux_and_place_survive_any_shift(dx, dy, name):
    image = star(30, 29)
    sci, _, _ = run(image, Affine.shift(dx, dy), parameters=ResampleParameters(interpolant=name))
    assert sci.sum() == pytest.approx(image.sum(), rel=3e-4)
    # A normalised Lanczos kernel moves what is very smooth by up to 0.02 px (it does not reproduce a slope
    # exactly); a star, in the window that it is measured in, by less than 0.01 px.
    exact = name in ("bicubic", "linear")
    assert centroid(sci) == pytest.approx((30 + dx, 29 + dy), abs=2e-3 if exact else 0.021)
    found = np.empty((1, 6))
    windowed_moments(sci, np.array([[30 + dx, 29 + dy]]), 1.7, found)
    assert tuple(found[0, :2]) == pytest.approx((30 + dx, 29 + dy), abs=0.01)


def test_lanczos_keeps_the_width_of_a_star_and_linear_does_not():
    def width(name):
        sci, _, _ = run(star(30, 30), Affine.shift(0.5, 0.5), parameters=ResampleParameters(interpolant=name))
        x, y = centroid(sci)
        j, i = np.mgrid[:60, :60]
        return np.sqrt((sci * ((i - x) ** 2 + (j - y) ** 2)).sum() / sci.sum() / 2)

    assert width("lanczos3") == pytest.approx(1.7, rel=0.01)
    assert width("linear") > 1.7 * 1.03


@pytest.mark.parametrize("transform", [Affine.shift(2.37, -1.81), TURN])
@pytest.mark.parametrize("name", NAMES)
def test_a_constant_stays_what_it_is(name, transform):
    sci, _, dq = run(np.full((40, 50), 321.0), transform, parameters=ResampleParameters(interpolant=name))
    inside = dq & DQ.NO_DATA == 0
    assert inside.mean() > 0.7
    assert sci[inside] == pytest.approx(321.0, rel=2e-6)


def test_it_is_linear():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 40, 40))
    shift = Affine.shift(0.31, 0.77)
    assert run(2 * a - 3 * b, shift)[0] == pytest.approx(
        2 * run(a, shift)[0] - 3 * run(b, shift)[0], abs=1e-5
    )


def test_whole_pixels_are_moved_untouched():
    rng = np.random.default_rng(2)
    image = rng.normal(size=(20, 30)).astype(np.float32)
    var = rng.uniform(1, 2, (20, 30)).astype(np.float32)
    sci, v, dq = run(image, Affine.shift(3, -2), var=var)
    assert (sci[:18, 3:] == image[2:, :27]).all()
    assert (v[:18, 3:] == var[2:, :27]).all()
    assert (dq[18:] == DQ.NO_DATA).all()
    assert (dq[:, :3] == DQ.NO_DATA).all()
    assert not sci[18:].any()
    assert not v[:, :3].any()
    assert not dq[:18, 3:].any()


@pytest.mark.parametrize("name", NAMES)
def test_variance_is_that_of_many_noise_frames(name):
    rng = np.random.default_rng(3)
    var = rng.uniform(1, 9, (24, 24))
    parameters = ResampleParameters(interpolant=name)
    shift = Affine.shift(0.4, -0.25)
    frames = [run(rng.normal(0, np.sqrt(var)), shift, parameters=parameters)[0] for _ in range(1500)]
    _, reported, dq = run(np.zeros_like(var), shift, var=var, parameters=parameters)
    inner = np.s_[5:-5, 5:-5]
    assert not dq[inner].any()
    ratio = np.var(frames, axis=0)[inner] / reported[inner]
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    assert ratio.std() < 0.08


def test_variance_at_a_turn_is_that_of_many_noise_frames():
    rng = np.random.default_rng(4)
    var = rng.uniform(1, 9, (24, 24))
    frames = [run(rng.normal(0, np.sqrt(var)), TURN)[0] for _ in range(800)]
    reported = run(np.zeros_like(var), TURN, var=var)[1]
    ratio = (np.var(frames, axis=0) / np.where(reported > 0, reported, 1))[6:-6, 6:-6]
    assert ratio.mean() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_noise_correlation_factor_is_that_of_large_bins(name):
    rng = np.random.default_rng(5)
    shift, parameters = (0.5, 0.3), ResampleParameters(interpolant=name)
    factor = mean_squared_weights(name, *np.array(shift)[:, None]) ** -0.5
    bins = []
    for _ in range(25):
        sci, var, _ = run(rng.normal(size=(140, 140)), Affine.shift(*shift), parameters=parameters)
        bins.append(sci[6:134, 6:134].reshape(4, 32, 4, 32).mean(axis=(1, 3)))
    naive = np.sqrt(var[60, 60]) / 32
    # The bins' edges share pixels with their neighbours, which costs the mean a few per cent.
    assert np.std(bins) / naive == pytest.approx(factor, rel=0.12)
    assert mean_squared_weights(name, np.array([2.0]), np.array([-3.0])) ** -0.5 == pytest.approx(1.0)


def test_a_bad_pixel_does_not_leak():
    rng = np.random.default_rng(6)
    image = rng.normal(100, 1, (40, 40)).astype(np.float32)
    clean = run(image, Affine.shift(0.45, 0.55))[0]
    for value in (1e6, -1e6, np.nan, np.inf):
        broken, dq = image.copy(), np.zeros(image.shape, np.uint16)
        broken[20, 20], dq[20, 20] = value, DQ.BAD_PIXEL
        sci, var, out = run(broken, Affine.shift(0.45, 0.55), dq=dq)
        assert np.abs(sci - clean).max() < 4
        assert np.isfinite(var).all()
        flagged = out & DQ.BAD_PIXEL > 0
        # The four nearest output pixels take the most from it.
        assert flagged[20:22, 20:22].all()
        assert flagged.sum() <= 16


def test_a_value_that_is_not_finite_is_flagged():
    image = np.zeros((20, 20))
    image[10, 10] = np.nan
    sci, _, dq = run(image, Affine.shift(1, 0))
    assert np.isfinite(sci).all()
    assert dq[10, 11] == DQ.BAD_PIXEL


@pytest.mark.parametrize("transform", [Affine.shift(0.3, 0.2), TURN])
def test_bits_spread_to_the_share_that_is_asked(transform):
    dq = np.zeros((40, 40), np.uint16)
    dq[20, 20], dq[10, 30] = DQ.SATURATED, DQ.NON_LINEAR | DQ.COSMIC_RAY
    counts = []
    for threshold in (0.0, 0.03, 0.1, 0.2):
        parameters = ResampleParameters(dq_threshold=threshold)
        out = run(np.ones((40, 40)), transform, dq=dq, parameters=parameters)[2][5:-5, 5:-5]
        counts.append([int(((out & bit) > 0).sum()) for bit in (DQ.SATURATED, DQ.NON_LINEAR, DQ.COSMIC_RAY)])
    counts = np.array(counts)
    assert (np.diff(counts, axis=0) <= 0).all()
    assert (counts[0] > 20).all()
    assert (counts[1] >= 4).all()
    assert (counts[3] >= 1).all()


def test_saturated_values_are_interpolated_as_they_are():
    image, dq = star(30, 30), np.zeros((60, 60), np.uint16)
    dq[29:32, 29:32] = DQ.SATURATED
    assert (run(image, Affine.shift(0.5, 0), dq=dq)[0] == run(image, Affine.shift(0.5, 0))[0]).all()


@given(dx=st.floats(-70, 70), dy=st.floats(-70, 70), name=st.sampled_from(NAMES[:4]))
@settings(max_examples=40)
def test_the_general_path_gives_what_the_fast_path_gives(dx, dy, name):
    # Half-way between two pixels the frame's edge may fall to either side.
    assume(min(abs(dx % 1 - 0.5), abs(dy % 1 - 0.5)) > 1e-6)
    rng = np.random.default_rng(7)
    image, var = rng.normal(100, 10, (50, 60)), rng.uniform(1, 2, (50, 60))
    dq = np.where(rng.random((50, 60)) < 0.02, 1, 0).astype(np.uint16)
    parameters = ResampleParameters(interpolant=name)
    fast = run(image, Affine.shift(dx, dy), var=var, dq=dq, parameters=parameters)
    # So small a shear moves nothing, but takes the other path.
    slow = run(image, Affine(xy=2e-10, x0=dx, y0=dy), var=var, dq=dq, parameters=parameters)
    # A position on the frame's very edge, or a share on the very threshold, may fall to either side.
    same = fast[2] == slow[2]
    assert same.mean() > 0.97
    # Weights of the general path are those of the nearest of 8192 steps: good to 1e-4.
    assert fast[0][same] == pytest.approx(slow[0][same], rel=1e-4, abs=6e-3)
    assert fast[1][same] == pytest.approx(slow[1][same], rel=1e-4, abs=6e-4)


def by_brute_force(sci, var, dq, transform, distortion=None, shape=None, threshold=0.03):
    """Return the planes from weights of each output pixel, evaluated exactly, one at a time."""
    ny, nx = sci.shape
    gaps = find_gaps(sci, var, dq, NOT_MEASURED)
    limits = np.where(gaps == HOPELESS, min(threshold, 1e-3), threshold)
    filled, noise = np.empty_like(sci), np.empty_like(var)
    fill_gaps(sci, gaps, filled)
    fill_gaps(var, gaps, noise)
    path, area = path_of(transform, distortion), abs(transform.inverse().determinant)
    out_ny, out_nx = shape or sci.shape
    out = np.zeros((3, out_ny, out_nx))
    out[2] = DQ.NO_DATA
    for y in range(out_ny):
        for x in range(out_nx):
            u, v = (float(at) for at in follow(path, np.float64(x), np.float64(y)))
            if not (-0.5 < u <= nx - 0.5 and -0.5 < v <= ny - 0.5):
                continue
            there = (u, v) if distortion is None else distortion(np.float64(u), np.float64(v))
            if np.hypot(*np.subtract(transform(*there), (x, y))) > 0.1:
                continue  # far from the frame a polynomial leads anywhere
            i, j = int(np.floor(u)), int(np.floor(v))
            w = np.outer(weights("lanczos3", v - j), weights("lanczos3", u - i))
            rows, columns = np.arange(j - 2, j + 4), np.arange(i - 2, i + 4)
            box = np.ix_(np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1))
            bits, limit = dq[box].copy(), limits[box].copy()
            outside = ((rows < 0) | (rows >= ny))[:, None] | ((columns < 0) | (columns >= nx))
            bits[outside], limit[outside] = DQ.NO_DATA, threshold
            marked = np.abs(w) > limit * np.abs(w).sum()
            marked[2 + (v - j > 0.5), 2 + (u - i > 0.5)] = True
            out[:, y, x] = (
                area * (w * filled[box]).sum(), area**2 * (w**2 * noise[box]).sum(),
                np.bitwise_or.reduce(bits[marked]),
            )  # fmt: skip
    return out


def compare_with_brute_force(sci, var, dq, transform, distortion=None, shape=None, band=None):
    sci, var = sci.astype(np.float32), var.astype(np.float32)
    exact = by_brute_force(sci, var, dq, transform, distortion, shape)
    found = run(sci, transform, var=var, dq=dq, distortion=distortion, shape=shape, band=band)
    assert np.abs(found[0] - exact[0]).max() < 1e-3  # of the noise
    assert np.abs(found[1] - exact[1]).max() < 1e-3
    # A share on the very threshold may fall to either side.
    assert (found[2] == exact[2]).mean() > 0.9995


@pytest.mark.parametrize("transform", [TURN, Affine(0.97, 0.21, -0.2, 1.02, 4.2, 9.7)])
def test_every_pixel_is_that_of_the_exact_weights(transform):
    rng = np.random.default_rng(11)
    sci, var = rng.normal(0, 1, (60, 300)), rng.uniform(1, 2, (60, 300))
    dq = np.where(rng.random(sci.shape) < 0.02, np.uint16(DQ.SATURATED), np.uint16(0))
    compare_with_brute_force(sci, var, dq, transform)


@pytest.mark.parametrize("angle", [-3.0, 5.0, 30.0, 45.0, 90.0, 133.0, 180.0])
@pytest.mark.parametrize("scale", [1.0, 1.6, 0.6])
def test_flags_and_values_are_exact_at_any_angle(angle, scale):
    rng = np.random.default_rng(12)
    shape = 40, 70
    sci, var = rng.normal(0, 1, shape), rng.uniform(1, 2, shape)
    # Outside the circle of light no pixel has a measurement; some of those are bad, and some inside it.
    y, x = np.mgrid[: shape[0], : shape[1]]
    dq = np.where(np.hypot(y - 20, x - 30) > 26, np.uint16(DQ.UNILLUMINATED), np.uint16(0))
    dq |= np.where(rng.random(shape) < 0.03, np.uint16(DQ.BAD_PIXEL), np.uint16(0))
    dq |= np.where(rng.random(shape) < 0.02, np.uint16(DQ.SATURATED), np.uint16(0))
    turned = Affine.turn(angle, 34.3, 20.2).then(Affine(scale, 0, 0, scale, 0.4, -0.7))
    compare_with_brute_force(sci, var, dq, turned)


def test_flags_and_values_are_exact_with_distortion():
    rng = np.random.default_rng(14)
    shape = 150, 150
    sci, var = rng.normal(0, 1, shape), rng.uniform(1, 2, shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    dq = np.where(np.hypot(y - 75, x - 75) > 70, np.uint16(DQ.UNILLUMINATED), np.uint16(0))
    dq |= np.where(rng.random(shape) < 0.05, np.uint16(DQ.SATURATED), np.uint16(0))
    compare_with_brute_force(sci, var, dq, TURN, Distortion.radial(shape, 0.01))


@pytest.mark.parametrize("band", [1, 7, 40])
@pytest.mark.parametrize(
    ("transform", "fraction"),
    [
        (Affine(), 0.01), (Affine.shift(200.0, 3.0), -0.01),
        (Affine.turn(90.0, 0.0, 0.0).then(Affine.shift(60.3, 8.7)), 0.01),
        (Affine(0.5, 0.0, 0.0, 0.5, 225.5, -4.2), 0.005),
    ],
)  # fmt: skip
def test_a_small_distorted_frame_is_exact_in_a_wide_output(transform, fraction, band):
    rng = np.random.default_rng(16)
    sci, var = rng.normal(0, 1, (20, 20)), rng.uniform(1, 2, (20, 20))
    dq = np.where(rng.random(sci.shape) < 0.05, np.uint16(DQ.SATURATED), np.uint16(0))
    compare_with_brute_force(
        sci, var, dq, transform, Distortion.radial((20, 20), fraction), shape=(40, 256), band=band
    )


@pytest.mark.parametrize("x0", [3.0, 5.0, 17.0, 250.0])
@pytest.mark.parametrize("fraction", [-0.01, 0.01])
def test_bands_of_a_turned_and_distorted_frame_give_the_complete_one(fraction, x0):
    rng = np.random.default_rng(17)
    shape = 256, 256
    image, dq = rng.normal(size=shape), (rng.random(shape) < 0.03).astype(np.uint16)
    turned = Affine.turn(90.0, 0.0, 0.0).then(Affine.shift(x0, 0.0))
    distortion = Distortion.radial(shape, fraction)
    parts = (run(image, turned, dq=dq, shape=(256, 8), band=b, distortion=distortion) for b in (256, 64, 3))
    complete, *others = parts
    assert (complete[2] != DQ.NO_DATA).any()
    for planes in others:
        for one, other in zip(complete, planes, strict=True):
            assert (one == other).all()


def test_a_frame_of_very_many_rows_has_all_its_flags_in_one_band():
    shape = 33_500, 4
    dq = np.zeros(shape, np.uint16)
    dq[::500, 1] = DQ.SATURATED
    turned = Affine.turn(1e-3, 0.0, 0.0)
    whole, parts = (run(np.ones(shape), turned, dq=dq, band=band)[2] for band in (None, 64))
    assert (whole == parts).all()


@pytest.mark.parametrize("angle", [0.3, 45.0])
def test_values_and_flags_are_the_same_without_variances(angle):
    rng = np.random.default_rng(15)
    planes = (
        rng.normal(size=(50, 300)).astype(np.float32),
        np.ones((50, 300), np.float32),
        np.zeros((50, 300), np.uint16),
    )
    planes[2][10:15, 100:150] = DQ.BAD_PIXEL
    turned = Affine.turn(angle, 150.0, 25.0)
    sci, _, dq = run(planes[0], turned, var=planes[1], dq=planes[2])
    light, quality = np.empty_like(sci), np.empty_like(dq)
    resample_into((light, None, quality), array_source(*planes), (50, 300), turned, slice(0, 50))
    assert (light == sci).all()
    assert (quality == dq).all()


def test_a_frame_turned_by_180_degrees_is_the_frame_backwards():
    rng = np.random.default_rng(13)
    image, dq = rng.normal(100, 1, (51, 301)), np.zeros((51, 301), np.uint16)
    dq[7, 200:230], dq[:20, :20] = DQ.SATURATED, DQ.UNILLUMINATED
    sci, var, bits = run(image, Affine.turn(180.0, 150.0, 25.0), dq=dq)
    measured = dq[::-1, ::-1] != DQ.UNILLUMINATED
    assert sci[measured] == pytest.approx(image[::-1, ::-1][measured], abs=1e-3)
    assert var[measured] == pytest.approx(1.0, abs=1e-4)
    assert (bits == dq[::-1, ::-1]).all()


@pytest.mark.parametrize(
    "transform", [Affine.shift(3.4, -2.8), TURN, Affine(1.01, 0.004, -0.003, 0.99, -4.2, 7.7)]
)
def test_a_smooth_image_agrees_with_scipy(transform):
    rng = np.random.default_rng(8)
    image = ndimage.gaussian_filter(rng.normal(size=(80, 90)), 3.0) * 1000
    sci, _, dq = run(image, transform)
    back = transform.inverse()
    y, x = np.mgrid[:80, :90].astype(np.float64)
    u, v = back(x, y)
    wanted = ndimage.map_coordinates(image, [v, u], order=5, mode="nearest") * abs(back.determinant)
    inner = (dq == 0) & (u > 6) & (u < 83) & (v > 6) & (v < 73)
    assert inner.sum() > 3000
    assert np.abs(sci - wanted)[inner].max() < 0.004 * np.abs(image).max()


@pytest.mark.parametrize("scale", [0.8, 1.25])
def test_flux_survives_a_change_of_scale(scale):
    image = star(30, 30, sigma=2.5)
    transform = Affine(scale, 0, 0, scale, 2.2, 1.4)
    sci, _, _ = run(image, transform, shape=(90, 90))
    assert sci.sum() == pytest.approx(image.sum(), rel=1e-3)
    assert centroid(sci) == pytest.approx((30 * scale + 2.2, 30 * scale + 1.4), abs=5e-3)


@pytest.mark.parametrize("transform", [Affine.shift(-7.3, 12.6), TURN, Affine.turn(45.0, 20.0, 25.0)])
@pytest.mark.parametrize("band", [1, 7, 16])
def test_bands_give_the_complete_frame(transform, band):
    rng = np.random.default_rng(9)
    image, dq = rng.normal(size=(50, 40)), (rng.random((50, 40)) < 0.03).astype(np.uint16)
    for whole, parts in zip(
        run(image, transform, dq=dq, shape=(70, 55)),
        run(image, transform, dq=dq, shape=(70, 55), band=band),
        strict=True,
    ):
        assert whole.dtype == parts.dtype
        assert (whole == parts).all()


@pytest.mark.parametrize("transform", [Affine.shift(-7.3, 12.6), Affine.shift(0, -65), TURN])
def test_only_the_rows_needed_are_read(transform):
    asked = []
    planes = [np.zeros((50, 40), np.float32), np.ones((50, 40), np.float32), np.zeros((50, 40), np.uint16)]

    def source(rows):
        asked.append(rows)
        return tuple(plane[rows] for plane in planes)

    rows = slice(20, 28)
    resample_rows(source, (50, 40), transform, rows, 40)
    needed = input_rows_needed(transform, rows, 40, (50, 40))
    assert asked == ([needed] if needed.stop > needed.start else [])
    assert needed.stop - needed.start <= 8 + 10 + 2


def test_outside_the_frame_there_is_nothing():
    sci, var, dq = run(np.ones((20, 20)), Affine.shift(500, 0))
    assert not sci.any()
    assert not var.any()
    assert (dq == DQ.NO_DATA).all()
    sci, var, dq = run(np.ones((20, 20)), Affine.shift(0, 500))
    assert not sci.any()
    assert (dq == DQ.NO_DATA).all()


def test_pixels_that_draw_on_a_void_are_flagged():
    image, dq = np.full((40, 40), 100.0), np.zeros((40, 40), np.uint16)
    image[:, :12], dq[:, :12] = 7e5, DQ.UNILLUMINATED
    sci, _, out = run(image, Affine.shift(0.4, 0.3), dq=dq)
    good = out == 0
    assert good[5:-5, 16:-5].all()
    assert sci[good] == pytest.approx(100.0, rel=1e-3)
    assert (out[5:-5, 3:12] == DQ.UNILLUMINATED).all()


@pytest.mark.parametrize("name", ["lanczos3", "lanczos4", "bicubic"])
def test_bits_of_a_void_reach_further_on_both_paths(name):
    image, dq = np.full((50, 60), 100.0), np.zeros((50, 60), np.uint16)
    dq[:, :14] = DQ.UNILLUMINATED
    # Other bits among pixels that cannot be filled, next to their edge, and far from them.
    dq[20, 5], dq[30, 12], dq[10, 16], dq[40, 40] = DQ.COSMIC_RAY, DQ.COSMIC_RAY, DQ.BAD_PIXEL, DQ.SATURATED
    parameters = ResampleParameters(interpolant=name)
    fast = run(image, Affine.shift(0.37, 0.22), dq=dq, parameters=parameters)[2]
    slow = run(image, Affine(xy=2e-10, x0=0.37, y0=0.22), dq=dq, parameters=parameters)[2]
    assert (fast == slow).all()
    reached = [int(((fast & bit) > 0).sum()) for bit in (DQ.COSMIC_RAY, DQ.BAD_PIXEL, DQ.SATURATED)]
    # One of the two is surrounded by voids, so that nothing filled it: all weights above a thousandth count.
    assert reached[0] > 2 * reached[1] > 0
    assert reached[2] > 0


def test_outputs_are_contiguous_and_the_bits_are_gemini_s():
    planes = run(np.ones((20, 20)), Affine.shift(0.5, 0.5), dq=np.full((20, 20), DQ.UNILLUMINATED, np.uint16))
    assert [p.dtype for p in planes] == [np.float32, np.float32, np.uint16]
    assert all(p.flags.c_contiguous for p in planes)
    assert set(np.unique(planes[2])) <= {
        int(DQ.UNILLUMINATED),
        int(DQ.NO_DATA),
        int(DQ.UNILLUMINATED | DQ.NO_DATA),
    }


def test_a_grid_keeps_the_reference_on_whole_pixels():
    from imaging.errors import GroupError
    from imaging.header import Header

    header = Header({"CTYPE1": "RA---TAN", "CRPIX1": 50.5, "CRPIX2": 40.5})
    moves = [Affine(), Affine.shift(-3.4, 7.2)]
    union = make_grid(moves, [(80, 100)] * 2, header)
    assert union.origin == (-4, 0)
    assert union.shape == (88, 104)
    assert (union.header["CRPIX1"], union.header["CRPIX2"]) == (54.5, 40.5)
    assert header["CRPIX1"] == 50.5
    shared = make_grid(moves, [(80, 100)] * 2, header, mode="intersection")
    assert shared.origin == (0, 8)
    assert shared.shape == (72, 96)
    assert union.place(moves[1]) == Affine.shift(0.6000000000000001, 7.2)
    with pytest.raises(GroupError, match="no field in common"):
        make_grid([Affine(), Affine.shift(200, 0)], [(80, 100)] * 2, header, mode="intersection")

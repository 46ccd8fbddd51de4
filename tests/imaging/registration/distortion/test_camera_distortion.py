"""Distortion: its inverse, and frames that are resampled without it: in place, sharp, with the flux of their stars."""

from __future__ import annotations

import numpy as np
import pytest
from paths_of_frames import follow

from imaging.errors import GroupError
from imaging.header import Header
from imaging.pixels.dq import DQ
from imaging.registration.distortion.camera_distortion import Distortion, distortion_terms, path_of
from imaging.registration.geometry import Affine, make_grid
from imaging.registration.resampling.resample import array_source, input_rows_needed, resample_rows

SHAPE = (700, 640)
RADIAL = Distortion.radial(SHAPE, 0.003)
SHIFT = Affine.shift(4.3, -2.6)


def stars_of(distortion: Distortion, places: np.ndarray, sigma: float = 1.7) -> np.ndarray:
    """Return a flat-fielded frame of circular stars of flux 1e4: without distortion they are at ``places``."""
    out = np.zeros(SHAPE)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    px, py = distortion.inverse(*places.T)
    # The flat divides by the area of a pixel on the sky, which a star's light has not grown by.
    for a, b, area in zip(px, py, distortion.area(px, py), strict=True):
        box = np.s_[int(b) - 14 : int(b) + 15, int(a) - 14 : int(a) + 15]
        round_star = np.exp(-0.5 * ((x[box] - a) ** 2 + (y[box] - b) ** 2) / sigma**2)
        out[box] += 1e4 * round_star / (2 * np.pi * sigma**2) / area
    return out.astype(np.float32)


def resampled(frame: np.ndarray, transform: Affine, distortion: Distortion | None, band: int = 64) -> tuple:
    source = array_source(frame, np.ones_like(frame), np.zeros(frame.shape, np.uint16))
    bands = [slice(y, min(y + band, SHAPE[0])) for y in range(0, SHAPE[0], band)]
    parts = [resample_rows(source, SHAPE, transform, rows, SHAPE[1], None, distortion) for rows in bands]
    return tuple(np.concatenate(planes) for planes in zip(*parts, strict=True))


def moments(image: np.ndarray, x: float, y: float) -> tuple[float, float, float, float]:
    """Return flux, centroid and mean width of a star."""
    i, j = round(x), round(y)
    box = image[j - 9 : j + 10, i - 9 : i + 10].astype(float)
    v, u = np.mgrid[j - 9 : j + 10, i - 9 : i + 10]
    total = box.sum()
    cx, cy = (box * u).sum() / total, (box * v).sum() / total
    return total, cx, cy, np.sqrt((box * ((u - cx) ** 2 + (v - cy) ** 2)).sum() / total / 2)


def test_a_radial_distortion_is_a_fraction_of_the_radius_at_the_edge() -> None:
    x, y = RADIAL(np.array([RADIAL.middle[0]]), np.array([RADIAL.middle[1] + RADIAL.half]))
    assert (x[0], y[0]) == pytest.approx((RADIAL.middle[0], RADIAL.middle[1] + 1.003 * RADIAL.half))
    assert RADIAL.largest > 1.5
    # d(r + k r^3) / dr and (r + k r^3) / r at the edge
    assert RADIAL.area(
        *(np.array([n]) for n in (RADIAL.middle[0], RADIAL.middle[1] + RADIAL.half))
    ) == pytest.approx(1.009 * 1.003, abs=1e-5)
    assert len(RADIAL.x) == len(distortion_terms(3)) == 7


@pytest.mark.parametrize("fraction", [0.003, -0.003, 0.01])
def test_the_inverse_and_the_path_lead_back(fraction: float) -> None:
    distortion = Distortion.radial(SHAPE, fraction)
    rng = np.random.default_rng(1)
    px, py = rng.uniform(0, 1, (2, 500)) * np.array([[SHAPE[1] - 1.0], [SHAPE[0] - 1.0]])
    x, y = distortion(px, py)
    assert np.array(distortion.inverse(x, y)) == pytest.approx(np.array([px, py]), abs=1e-5)
    turn = Affine.turn(0.4, 300.0, 310.0).then(SHIFT)
    back = follow(path_of(turn, distortion), *turn(x, y))
    assert back == pytest.approx(np.array([px, py]), abs=0.005)


def test_without_distortion_the_path_is_the_inverse_transform() -> None:
    turn = Affine.turn(0.4, 300.0, 310.0).then(SHIFT)
    x, y = np.array([3.0, 500.0]), np.array([600.0, 1.0])
    assert follow(path_of(turn, None), x, y) == pytest.approx(np.array(turn.inverse()(x, y)), abs=1e-9)


def test_a_distortion_without_inverse_is_refused() -> None:
    wild = Distortion.radial(SHAPE, -0.9)
    with pytest.raises(GroupError, match="has no inverse"):
        wild.inverse(np.array([0.0]), np.array([0.0]))
    with pytest.raises(GroupError, match="Check its coefficients"):
        path_of(SHIFT, wild)


@pytest.mark.parametrize("transform", [SHIFT, Affine.turn(0.5, 320.0, 350.0).then(SHIFT)])
def test_stars_at_the_edge_are_in_place_sharp_and_as_bright(transform: Affine) -> None:
    places = np.array([[30.0, 340.0], [610.0, 350.0], [320.0, 30.0], [330.0, 660.0], [40.0, 45.0], [600.0, 655.0],
                       [320.0, 350.0]])  # fmt: skip
    frame = stars_of(RADIAL, places)
    sci, _, dq = resampled(frame, transform, RADIAL)
    plain, _, _ = resampled(frame, transform, None)
    off = []
    for x, y in np.column_stack(transform(*places.T)):
        flux, cx, cy, width = moments(sci, x, y)
        assert np.hypot(cx - x, cy - y) < 0.05
        assert width == pytest.approx(1.7, rel=0.02)
        assert flux == pytest.approx(1e4, rel=2e-3)
        off.append(np.hypot(moments(plain, x, y)[1] - x, moments(plain, x, y)[2] - y))
    assert max(off) > 0.8
    assert (dq[100:600, 100:500] == 0).all()


def test_bands_rows_and_a_constant() -> None:
    rng = np.random.default_rng(2)
    frame = rng.normal(size=SHAPE).astype(np.float32)
    for one, other in zip(resampled(frame, SHIFT, RADIAL), resampled(frame, SHIFT, RADIAL, 17), strict=True):
        assert (one == other).all()
    flat, _, dq = resampled(np.full(SHAPE, 321.0, np.float32), SHIFT, RADIAL)
    inside = dq & DQ.NO_DATA == 0
    assert inside.mean() > 0.97
    assert flat[inside] == pytest.approx(321.0, rel=2e-6)
    y, x = (a.ravel().astype(float) for a in np.mgrid[: SHAPE[0], : SHAPE[1]])
    back = follow(path_of(SHIFT, RADIAL), x, y).reshape(2, *SHAPE)
    outside = (back < -0.51).any(axis=0) | (back[0] > SHAPE[1] - 0.49) | (back[1] > SHAPE[0] - 0.49)
    assert outside.sum() > 1000
    assert not flat[outside].any()
    assert (dq[outside] == DQ.NO_DATA).all()
    rows = input_rows_needed(SHIFT, slice(100, 120), SHAPE[1], SHAPE, None, RADIAL)
    assert (rows.start, rows.stop) <= (100, 140)
    assert 25 < rows.stop - rows.start < 36


@pytest.mark.parametrize("fraction", [0.003, -0.003])
def test_the_grid_contains_all_pixels_or_only_those_of_all_frames(fraction: float) -> None:
    distortion = Distortion.radial(SHAPE, fraction)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    edge = (x == 0) | (y == 0) | (x == SHAPE[1] - 1) | (y == SHAPE[0] - 1)
    u, v = SHIFT(*distortion(x[edge], y[edge]))
    union = make_grid([SHIFT], [SHAPE], Header(), undistorted=distortion)
    (ox, oy), (ny, nx) = union.origin, union.shape
    assert ox <= u.min() <= ox + 1
    assert oy <= v.min() <= oy + 1
    assert u.max() <= ox + nx - 1
    assert v.max() <= oy + ny - 1
    common = make_grid([SHIFT], [SHAPE], Header(), mode="intersection", undistorted=distortion)
    (ox, oy), (ny, nx) = common.origin, common.shape
    within = (u > ox) & (u < ox + nx - 1) & (v > oy) & (v < oy + ny - 1)
    assert not within.any()
    assert nx > SHAPE[1] - 8
    assert ny > SHAPE[0] - 8


def test_the_polynomials_of_the_pixels_are_the_distortion() -> None:
    x, y = np.array([3.0, 630.0, 300.0]), np.array([690.0, 20.0, 350.0])
    added = follow(RADIAL.expanded(), x, y)
    np.testing.assert_allclose(np.stack(RADIAL(x, y)), np.stack([x, y]) + added, atol=1e-9)

"""Detection: tiny frames with sources of known place, flux and width; sep is the reference."""

from __future__ import annotations

import numpy as np
import pytest
import sep

from imaging.pixels.dq import DQ
from imaging.simulator.star_field import add_stars as add_moffat_stars
from imaging.sources.background import measure_background, mesh_row
from imaging.sources.detect import CATALOGUE, DetectParameters, Flag, detect

FWHM = 3.8
SIGMA = FWHM / 2.3548
RMS = 10.0


def add_stars(frame, x, y, flux, sigma=SIGMA):
    """Gaussian stars, integrated over pixels by 5 x 5 sub-pixels."""
    fine = (np.arange(5) - 2) / 5
    for xi, yi, fi in zip(
        np.atleast_1d(x), np.atleast_1d(y), np.broadcast_to(flux, np.shape(x)), strict=True
    ):
        i0, j0 = int(xi) - 15, int(yi) - 15
        i, j = np.arange(i0, i0 + 31), np.arange(j0, j0 + 31)
        gx = np.exp(-0.5 * ((i[:, None] + fine - xi) / sigma) ** 2).mean(axis=1)
        gy = np.exp(-0.5 * ((j[:, None] + fine - yi) / sigma) ** 2).mean(axis=1)
        frame[j0 : j0 + 31, i0 : i0 + 31] += fi * np.outer(gy, gx) / (2 * np.pi * sigma**2)


@pytest.fixture(scope="module")
def field():
    """A grid of 36 well separated stars of many fluxes at random sub-pixel places, with noise."""
    rng = np.random.default_rng(5)
    gx, gy = np.meshgrid(np.arange(30, 300, 48), np.arange(30, 300, 48))
    x, y = (g.ravel() + rng.uniform(-0.5, 0.5, g.size) for g in (gx, gy))
    flux = np.geomspace(3e3, 3e5, x.size)[rng.permutation(x.size)]
    sci = rng.normal(0, RMS, (320, 320)).astype(np.float32)
    add_stars(sci, x, y, flux)
    return sci, np.zeros(sci.shape, np.uint16), x, y, flux


def nearest(catalogue, x, y):
    distance = np.hypot(catalogue["x"][None] - x[:, None], catalogue["y"][None] - y[:, None])
    return catalogue[distance.argmin(axis=1)], distance.min(axis=1)


def test_all_stars_are_found_and_nothing_else(field):
    sci, dq, x, y, _ = field
    found = detect(sci, dq)
    assert len(found.catalogue) == len(x)
    assert found.catalogue.dtype == CATALOGUE
    assert nearest(found.catalogue, x, y)[1].max() < 0.5
    assert (np.diff(found.catalogue["flux"]) <= 0).all()


def test_seeing_level_and_noise(field):
    found = detect(field[0] + np.float32(7.0), field[1])
    assert found.seeing == pytest.approx(FWHM, rel=0.03)  # pixels widen it by 1 %
    assert found.level == pytest.approx(7.0, abs=1.0)
    assert found.rms == pytest.approx(RMS, rel=0.05)


def test_centroids_of_bright_stars_have_no_sub_pixel_bias():
    x0 = np.linspace(-0.5, 0.5, 11)
    worst = 0.0
    for dx in x0:
        sci = np.random.default_rng(1).normal(0, 0.1, (64, 64)).astype(np.float32)
        add_stars(sci, [31 + dx], [30 - 0.7 * dx], 2e5)
        star = detect(sci, np.zeros(sci.shape, np.uint16), DetectParameters(background_mesh=32)).catalogue[0]
        worst = max(worst, abs(star["x"] - 31 - dx), abs(star["y"] - 30 + 0.7 * dx))
    assert worst < 0.005


def test_position_errors_match_the_scatter():
    rng = np.random.default_rng(2)
    pulls = []
    for _ in range(12):
        gx, gy = (g.ravel() for g in np.meshgrid(np.arange(32, 300, 50.0), np.arange(32, 300, 50.0)))
        x, y = gx + rng.uniform(-0.5, 0.5, gx.size), gy + rng.uniform(-0.5, 0.5, gx.size)
        light = np.zeros((320, 320), np.float64)
        add_stars(light, x, y, np.full(x.size, 5e3))
        sci = (light + rng.normal(0, 1, light.shape) * np.sqrt(RMS**2 + light)).astype(np.float32)
        star, _ = nearest(detect(sci, np.zeros(sci.shape, np.uint16)).catalogue, x, y)
        pulls += [(star["x"] - x) / star["error"], (star["y"] - y) / star["error"]]
    assert 0.85 < np.std(np.concatenate(pulls)) < 1.2


def test_fluxes_and_their_errors(field):
    sci, dq, x, y, flux = field
    star, _ = nearest(detect(sci, dq).catalogue, x, y)
    # A radius of 2 FWHM holds all of a Gaussian.
    noise = RMS * np.sqrt(np.pi) * 2 * FWHM
    assert np.abs((star["flux"] - flux) / noise).max() < 4.5
    assert star["flux_err"] == pytest.approx(np.sqrt(noise**2 + flux), rel=0.12)
    assert star["snr"] == pytest.approx(star["flux"] / star["flux_err"])


def test_agrees_with_sep(field):
    sci, dq, *_ = field
    ours = detect(sci, dq)
    background = sep.Background(sci, bw=64, bh=64)
    theirs = sep.extract(sci - background.back(), 2.0, err=background.globalrms, minarea=8)
    star, _ = nearest(ours.catalogue, theirs["x"], theirs["y"])
    assert len(theirs) == len(ours.catalogue)
    wx, wy, _ = sep.winpos(sci - background.back(), theirs["x"], theirs["y"], np.full(len(theirs), SIGMA))
    bright = star["snr"] > 100
    assert bright.sum() > 10
    assert np.hypot(star["x"] - wx, star["y"] - wy)[bright].max() < 0.02
    flux, _, _ = sep.sum_circle(sci - background.back(), wx, wy, 2 * ours.seeing)
    assert star["flux"][bright] == pytest.approx(flux[bright], rel=0.01)


def test_background_follows_a_gradient():
    y, x = np.mgrid[:512, :512]
    slope = (0.5 * x - 0.3 * y).astype(np.float32)
    sci = slope + np.random.default_rng(3).normal(0, RMS, slope.shape).astype(np.float32)
    add_stars(sci, np.array([100.3, 300.7]), np.array([200.0, 410.0]), 1e6)
    background = measure_background(sci, np.zeros(sci.shape, np.uint16))
    level = np.empty(sci.shape, np.float32)
    for row in range(len(level)):
        mesh_row(background.level_mesh, background.cell, row, level[row])
    assert np.abs(level - slope).mean() < 0.15 * RMS
    # 64 px of a slope of 0.58 widen the noise to sqrt(10^2 + 10.8^2): the mesh cannot distinguish it from noise.
    assert RMS * 0.95 < background.rms < RMS * 1.6
    found = detect(sci, np.zeros(sci.shape, np.uint16))
    assert found.object_mask.mean() < 0.01
    assert nearest(found.catalogue, np.array([100.3, 300.7]), np.array([200.0, 410.0]))[1].max() < 0.05


def test_background_ignores_sources_and_objects_can_be_masked():
    rng = np.random.default_rng(4)
    sci = rng.normal(100, RMS, (256, 256)).astype(np.float32)
    x, y = rng.uniform(20, 236, (2, 60))
    add_stars(sci, x, y, 2e4)
    dq = np.zeros(sci.shape, np.uint16)
    plain = measure_background(sci, dq)
    assert abs(plain.level - 100) < 0.35 * RMS
    masked = measure_background(sci, dq, objects=detect(sci, dq).object_mask)
    assert abs(masked.level - 100) < 0.12 * RMS


def test_bad_pixels_make_no_sources_and_do_not_cut_them(field):
    sci, dq, x, y, _ = field
    sci, dq = sci.copy(), dq.copy()
    rng = np.random.default_rng(6)
    bad = rng.random(sci.shape) < 0.01
    sci[bad] = rng.choice([-2e5, 2e5, np.nan], bad.sum())
    dq[bad] = DQ.BAD_PIXEL
    found = detect(sci, dq)
    assert len(found.catalogue) == len(x)
    star, distance = nearest(found.catalogue, x, y)
    assert distance.max() < 1.0
    assert np.isfinite(star["flux"]).all()
    near = np.array(
        [bad[int(b) - 4 : int(b) + 6, int(a) - 4 : int(a) + 6].any() for a, b in zip(x, y, strict=True)]
    )
    assert near.any()
    assert not (star["flags"][~near] & Flag.BAD_PIXEL).any()


def test_an_unflagged_nan_is_survived(field):
    sci = field[0].copy()
    sci[5, 5] = np.nan
    assert len(detect(sci, field[1]).catalogue) == len(field[2])


def test_flags():
    sci = np.random.default_rng(7).normal(0, RMS, (200, 200)).astype(np.float32)
    place = {
        "clean": (40, 40),
        "saturated": (100, 40),
        "nonlinear": (160, 40),
        "bad": (40, 100),
        "edge": (100, 100),
    }
    place["crowded"] = (160, 100)
    for x, y in place.values():
        add_stars(sci, [x], [y], 5e4)
    add_stars(sci, [167.0], [100.0], 4e4)
    sci[160:162, 40:42] = 4e3  # a cosmic ray with hard edges
    dq = np.zeros(sci.shape, np.uint16)
    dq[40, 100], dq[40, 160], dq[101, 40] = DQ.SATURATED, DQ.NON_LINEAR, DQ.BAD_PIXEL
    dq[104:120, 96:106] = DQ.UNILLUMINATED
    table = detect(sci, dq, DetectParameters(background_mesh=50)).catalogue
    flags = {
        n: Flag(int(nearest(table, np.array([x]), np.array([y]))[0]["flags"][0]))
        for n, (x, y) in place.items()
    }
    assert flags["clean"] == 0
    assert flags["saturated"] == Flag.SATURATED
    assert flags["nonlinear"] == Flag.NON_LINEAR
    assert flags["bad"] == Flag.BAD_PIXEL
    assert flags["edge"] & Flag.EDGE
    assert flags["crowded"] & Flag.BLENDED
    ray = nearest(table, np.array([40.5]), np.array([160.5]))[0]["flags"][0]
    assert ray & (Flag.SHARP | Flag.UNMEASURED)


def test_single_pixels_without_data_spoil_only_the_cores_that_they_hit(field):
    sci, dq, *_ = field
    rng = np.random.default_rng(3)
    lost = rng.random(sci.shape) < 0.008
    sci, dq = np.where(lost, np.nan, sci).astype(np.float32), np.where(lost, dq | DQ.NO_DATA, dq)
    table = detect(sci, dq.astype(np.uint16)).catalogue
    whole = detect(*field[:2]).catalogue
    pairs = [(a, whole[np.argmin(np.hypot(whole["x"] - a["x"], whole["y"] - a["y"]))]) for a in table]
    good = [(a, b) for a, b in pairs if a["flags"] == 0 and b["flags"] == 0]
    assert len(good) >= 0.5 * np.count_nonzero(whole["flags"] == 0)
    off = np.array([np.hypot(a["x"] - b["x"], a["y"] - b["y"]) / b["error"] for a, b in good])
    assert np.median(off) < 0.5
    assert not any(a["flags"] & Flag.EDGE for a, b in pairs if not b["flags"] & Flag.EDGE)


def test_hot_pixels_and_cosmic_rays_of_a_pixel_or_two_are_no_sources(field):
    sci, dq, x, *_ = field
    sci, dq = sci.copy(), dq.copy()
    clean = detect(sci, dq)
    for k, value in enumerate([5e2, 5e3, 1.5e5]):
        sci[54, 60 + 40 * k] += value
        sci[102, 60 + 40 * k] += value
        sci[103, 61 + 40 * k] += 0.8 * value
    dq[54, 140] = DQ.SATURATED
    found = detect(sci, dq)
    assert len(found.catalogue) == len(x)
    assert (found.object_mask == clean.object_mask).all()


@pytest.mark.parametrize("fwhm", [2.5, 3.0])
def test_a_sharp_star_is_no_spike(fwhm):
    rng = np.random.default_rng(12)
    sci = rng.normal(0, RMS, (320, 320)).astype(np.float32)
    x, y = (g.ravel() + rng.uniform(-0.5, 0.5, 36) for g in np.meshgrid(*[np.arange(30, 300, 48.0)] * 2))
    add_stars(sci, x, y, np.geomspace(5e3, 5e5, 36), sigma=fwhm / 2.3548)
    found = detect(sci, np.zeros(sci.shape, np.uint16))
    star, distance = nearest(found.catalogue, x, y)
    assert distance.max() < 0.2
    assert not star["flags"].any()
    assert found.seeing == pytest.approx(fwhm, rel=0.05)


def test_blends_are_taken_apart_only_when_asked():
    sci = np.random.default_rng(8).normal(0, RMS, (128, 128)).astype(np.float32)
    add_stars(sci, [60.0, 68.0], [60.2, 61.0], np.array([4e4, 3e4]))
    dq = np.zeros(sci.shape, np.uint16)
    apart, together = detect(sci, dq), detect(sci, dq, deblend=False)
    assert len(apart.catalogue) == 2
    assert len(together.catalogue) == 1
    assert nearest(apart.catalogue, np.array([60.0, 68.0]), np.array([60.2, 61.0]))[1].max() < 0.5
    assert (apart.object_mask == together.object_mask).all()


def test_noise_on_one_source_does_not_split_it():
    sci = np.random.default_rng(9).normal(0, RMS, (200, 200)).astype(np.float32)
    add_stars(sci, [100.0], [100.0], 3e5, sigma=4.5)
    assert len(detect(sci, np.zeros(sci.shape, np.uint16)).catalogue) == 1


def test_mask_is_the_sources_dilated(field):
    sci, dq, x, y, _ = field
    bare = detect(sci, dq, DetectParameters(dilation=0), catalogue=False)
    wide = detect(sci, dq, DetectParameters(dilation=2), catalogue=False)
    assert len(bare.catalogue) == 0
    j, i = np.mgrid[-2:3, -2:3]
    disc = i**2 + j**2 <= 4
    from scipy.ndimage import binary_dilation

    assert (wide.object_mask.astype(bool) == binary_dilation(bare.object_mask, disc)).all()
    assert wide.object_mask.dtype == np.uint8
    assert wide.object_mask[np.rint(y).astype(int), np.rint(x).astype(int)].all()
    assert (wide.object_mask == detect(sci, dq).object_mask).all()


def test_mask_has_no_data_quality_in_it(field):
    sci, dq, *_ = field
    dq = dq.copy()
    dq[:, :15] = DQ.UNILLUMINATED
    assert not detect(sci, dq).object_mask[:, :12].any()


def test_small_area_is_no_source():
    sci = np.random.default_rng(10).normal(0, RMS, (128, 128)).astype(np.float32)
    add_stars(sci, [64.0], [64.0], 6e3)
    dq = np.zeros(sci.shape, np.uint16)
    area = detect(sci, dq).catalogue["area"][0]
    assert len(detect(sci, dq, DetectParameters(min_area=int(area) + 1)).catalogue) == 0
    assert len(detect(sci, dq, DetectParameters(min_area=int(area))).catalogue) == 1


def test_the_same_frame_gives_the_same_catalogue(field):
    a, b = detect(field[0], field[1]), detect(field[0], field[1])
    assert a.catalogue.tobytes() == b.catalogue.tobytes()
    assert a.background.rms_mesh.tobytes() == b.background.rms_mesh.tobytes()


def test_arguments_are_left_alone(field):
    sci, dq = field[0].copy(), field[1].copy()
    detect(sci, dq)
    assert (sci == field[0]).all()
    assert (dq == field[1]).all()


def test_an_empty_frame_has_no_sources_and_no_seeing():
    sci = np.random.default_rng(11).normal(0, RMS, (128, 128)).astype(np.float32)
    found = detect(sci, np.zeros(sci.shape, np.uint16))
    assert len(found.catalogue) == 0
    assert np.isnan(found.seeing)


def test_a_frame_without_good_pixels_is_refused():
    with pytest.raises(ValueError, match="good pixels"):
        detect(np.zeros((64, 64), np.float32), np.ones((64, 64), np.uint16))


def test_an_aperture_holds_the_same_part_of_a_star_in_any_seeing():
    parts = []
    for fwhm in (2.8, 4.0, 7.5):
        sci = np.random.default_rng(2).normal(0, 1.0, (256, 256)).astype(np.float32)
        gx, gy = np.meshgrid(np.arange(40, 256, 60), np.arange(40, 256, 60))
        add_moffat_stars(
            sci, gx.ravel() + 0.3, gy.ravel() - 0.2, np.full(gx.size, 5e5), fwhm=fwhm, beta=3.5, level=0.001
        )
        found = detect(sci, np.zeros(sci.shape, np.uint16))
        assert len(found.catalogue) == gx.size
        parts.append(float(np.median(found.catalogue["flux"])) / 5e5)
    assert np.ptp(parts) < 0.002
    assert np.mean(parts) == pytest.approx(0.98, abs=0.005)


def test_the_catalogue_has_the_light_of_neighbours():
    sci = np.random.default_rng(2).normal(0, 1.0, (256, 256)).astype(np.float32)
    x, y, flux = (
        np.array([60.0, 72.0, 180.0, 60.0]),
        np.array([60.0, 60.0, 180.0, 190.0]),
        np.array([4e5, 1e5, 3e5, 2e5]),
    )
    add_moffat_stars(sci, x, y, flux, fwhm=4.0, beta=3.5, level=0.001)
    matched, _ = nearest(detect(sci, np.zeros(sci.shape, np.uint16)).catalogue, x, y)
    own = matched["flux"] - matched["neighbours"]
    assert own[:2] / own[2] == pytest.approx(flux[:2] / flux[2], rel=0.03)
    assert matched["neighbours"][1] > 0.08 * flux[1]
    assert (matched["neighbours"][2:] == 0).all()

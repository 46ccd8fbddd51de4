"""Mosaics of simulated stacks against the truth: fluxes, noise, depth, backgrounds at the seams, positions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulated_stacks import ZERO_POINT, field, pixels_of, stack_of

from imaging.mosaic.arrange import arrange
from imaging.mosaic.match_levels import object_map
from imaging.mosaic.mosaic import make_mosaic
from imaging.mosaic.parameters import MosaicParameters
from imaging.mosaic.sky_grid import place
from imaging.photometry.calibrate import NOMINAL, KnownZeroPoint
from imaging.photometry.magnitudes import measure_photometry
from imaging.pixels.dq import UNUSABLE
from imaging.sources.detect import detect

CLEAR, HAZY = 1.0, 0.7
HAZY_ZERO_POINT = ZERO_POINT + 2.5 * math.log10(HAZY)


@pytest.fixture(scope="module")
def stars():
    return field(np.random.default_rng(3), 80, n=60, bright=40)


@pytest.fixture(scope="module")
def clear(stars):
    return stack_of(stars, "clear", seed=1, zero_point=ZERO_POINT)


@pytest.fixture(scope="module")
def hazy(stars):
    """A night of worse seeing and less transparency; turned, not quite there, and with some sky left."""
    return stack_of(
        stars, "hazy", seed=2, zero_point=HAZY_ZERO_POINT, seeing=5.0, transparency=HAZY, turn=3.0, at=(2, 1.5),
        level=4.0, frames=9,
    )  # fmt: skip


@pytest.fixture(scope="module")
def nights(clear, hazy):
    arranged = arrange([clear, hazy])
    return arranged, make_mosaic(arranged)


@pytest.fixture(scope="module")
def wide_stars():
    return field(np.random.default_rng(8), 120, n=90, bright=70)


#: The tiles: where they point, arcsec, their transparency, and the sky that is left.
TILES = {
    "tile11": ((-20.0, -20.0), 1.0, 3.0), "tile12": ((20.0, -20.0), 0.85, -5.0),
    "tile21": ((-20.0, 20.0), 0.95, 0.0), "tile22": ((20.0, 20.0), 0.9, 8.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def tiles(wide_stars):
    """Four pointings that overlap by a quarter; the last has no zero point."""
    return [
        stack_of(
            wide_stars, name, at=at, transparency=t, level=level, seed=20 + k, dither=12.0,
            zero_point=None if name == "tile22" else ZERO_POINT + 2.5 * math.log10(t),
        )
        for k, (name, (at, t, level)) in enumerate(TILES.items())
    ]  # fmt: skip


@pytest.fixture(scope="module")
def mosaic(tiles):
    arranged = arrange(tiles)
    return arranged, make_mosaic(arranged)


def empty(arranged, made):
    """The pixels of the empty sky."""
    placed = [place(s, m, made.grid) for s, m in zip(arranged.stacks, arranged.moves, strict=True)]
    return ((made.dq & np.uint16(UNUSABLE)) == 0) & ~object_map(arranged.stacks, placed, made.grid)


def spread(values):
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def fluxes(sci, var, dq, noise_correlation):
    """Sources, and all their light with its error."""
    seen = detect(sci, dq)
    light = measure_photometry(
        sci,
        var,
        dq,
        seen,
        noise_correlation=noise_correlation,
        pixel_scale=0.18,
        known=KnownZeroPoint(ZERO_POINT, 0.05, NOMINAL),
        reference=None,
    )
    return seen.catalogue, light.flux, light.flux_error


def compared(catalogue, flux, stars, places, least=60.0):
    """Flux over the true one of the clean bright stars that are found, and their offsets from the true places."""
    off = np.hypot(catalogue["x"][:, None] - places[None, :, 0], catalogue["y"][:, None] - places[None, :, 1])
    nearest = off.argmin(axis=1)
    good = (off.min(axis=1) < 1.0) & (catalogue["snr"] > least) & (catalogue["flags"] == 0)
    moved = np.column_stack([catalogue["x"], catalogue["y"]])[good] - places[nearest[good]]
    return flux[good] / stars.flux[nearest[good]], moved, nearest[good], good


def test_the_clearest_and_sharpest_night_is_the_reference(nights) -> None:
    arranged, made = nights
    assert arranged.stacks[arranged.reference].name == made.metrics.reference == "clear"
    assert made.metrics.weights["clear"] > made.metrics.weights["hazy"] > 0.1


def test_fluxes_of_two_nights_are_those_of_the_stars(nights, stars) -> None:
    _, made = nights
    catalogue, flux, error = fluxes(made.sci, made.var, made.dq, made.metrics.noise_correlation)
    ratio, moved, _, good = compared(catalogue, flux, stars, pixels_of(made.grid.header(), stars.offsets))
    assert len(ratio) >= 15
    assert np.median(ratio) == pytest.approx(1.0, abs=0.01)
    # Neighbours, and the level under a star, add to the photon noise of the brightest.
    assert (np.abs(ratio - np.median(ratio)) < 4 * np.hypot(error[good] / flux[good], 0.006)).mean() > 0.9
    assert np.abs(moved.mean(axis=0)).max() < 0.03
    assert moved.std(axis=0).max() < 0.03


def test_factors_are_the_transparencies(nights, hazy) -> None:
    arranged, _ = nights
    k = [one.name for one in arranged.stacks].index("hazy")
    assert arranged.factors[k] == pytest.approx(CLEAR / HAZY, rel=0.01)
    assert arranged.factor_errors[k] < 0.02
    assert arranged.zero_point_error < 0.02


def test_the_variance_is_that_of_the_pixels(nights) -> None:
    arranged, made = nights
    sky = empty(arranged, made)
    pull = made.sci[sky] / np.sqrt(made.var[sky])
    assert 0.9 < spread(pull) < 1.1


def test_bins_have_the_noise_of_variance_and_correlation(nights) -> None:
    arranged, made = nights
    sky = empty(arranged, made)
    side = 8
    ny, nx = (n // side * side for n in sky.shape)

    def summed(plane):
        return plane[:ny, :nx].reshape(ny // side, side, nx // side, side).sum(axis=(1, 3))

    n = summed(sky.astype(float))
    whole = n > 0.9 * side**2
    pull = summed(np.where(sky, made.sci, 0.0))[whole] / np.sqrt(summed(np.where(sky, made.var, 0.0))[whole])
    assert whole.sum() > 400
    assert 0.9 < spread(pull) / made.metrics.noise_correlation < 1.1


def test_the_depth_is_that_of_both_nights(nights, clear, hazy) -> None:
    """The signal to noise of a point source of optimal weights adds in squares."""
    arranged, made = nights
    weight = {
        one.name: 1 / (one.blocks.typical * arranged.factors[k] ** 2) for k, one in enumerate(arranged.stacks)
    }
    sizes = {"clear": clear.seeing, "hazy": hazy.seeing}
    w = {name: weight[name] / sizes[name] ** 2 for name in weight}
    expected = sum(w[n] ** 2 / weight[n] for n in w) / sum(w.values()) ** 2
    sky = empty(arranged, made) & (made.exposure > 0.95 * made.metrics.deepest_exposure)
    gain = np.median(made.var[sky]) / expected
    assert 0.7 < gain < 1.05  # interpolation makes single pixels quieter, and correlates them
    assert made.metrics.noise_correlation**2 * gain == pytest.approx(clear.noise_correlation**2, rel=0.05)


def test_the_exposure_is_the_sum(nights, clear, hazy) -> None:
    _, made = nights
    assert made.metrics.total_exposure == clear.exposure + hazy.exposure == 15 * 120.0
    assert made.metrics.deepest_exposure == pytest.approx(15 * 120.0, rel=0.02)
    assert made.exposure[made.dq & np.uint16(UNUSABLE) == 0].min() > 0
    assert (made.exposure == 0).any()


def test_pixels_of_the_reference_are_not_interpolated(clear, stars) -> None:
    """Where only the reference has data, the mosaic is the reference."""
    far = stack_of(stars, "far", at=(30.0, 0.0), seed=5, zero_point=ZERO_POINT, dither=4.0)
    arranged = arrange([clear, far], MosaicParameters(reference="clear", level="none"))
    made = make_mosaic(arranged, MosaicParameters(level="none"))
    (k,) = [k for k, one in enumerate(arranged.stacks) if one.name == "clear"]
    where = place(arranged.stacks[k], arranged.moves[k], made.grid)
    assert where.affine is not None
    assert where.affine.is_shift
    assert where.affine.x0 == round(where.affine.x0)
    sci, _, dq = clear.rows(slice(0, clear.shape[0]))
    rows, columns = where.box
    alone = made.exposure[rows, columns] <= clear.blocks.exposure.repeat(4, 0).repeat(4, 1) + 0.1
    alone &= (dq & np.uint16(UNUSABLE)) == 0
    alone[:, : clear.shape[1] // 2] = False  # East, where the other one is, is left
    assert alone.sum() > 5000
    assert np.array_equal(made.sci[rows, columns][alone], sci[alone])


def test_the_result_does_not_depend_on_threads(nights) -> None:
    arranged, made = nights
    again = make_mosaic(arranged, threads=1)
    assert all(
        np.array_equal(getattr(again, plane), getattr(made, plane))
        for plane in ("sci", "var", "dq", "exposure")
    )


def test_the_levels_of_four_tiles_are_matched(mosaic) -> None:
    arranged, made = mosaic
    names = [one.name for one in arranged.stacks]
    assert made.levels.matched.all()
    level = {name: made.levels.terms[k, 0] for k, name in enumerate(names)}
    true = {name: TILES[name][2] * arranged.factors[k] for k, name in enumerate(names)}
    offsets = np.array([true[name] - level[name] for name in names])
    assert np.ptp(offsets) < 0.6  # pixels have a noise of 16


def steps_at_seams(arranged, made):
    """Steps of the mean empty sky at the left and right edges of tiles, in standard errors."""
    sky = empty(arranged, made)
    found = []
    for stack, move in zip(arranged.stacks, arranged.moves, strict=True):
        rows, columns = place(stack, move, made.grid).box
        for edge in (columns.start, columns.stop - 1):
            if not 40 < edge < sky.shape[1] - 40:
                continue
            sides = []
            for part in ((rows, slice(edge - 30, edge)), (rows, slice(edge + 1, edge + 31))):
                values = made.sci[part][sky[part]]
                error = made.metrics.noise_correlation * values.std() / math.sqrt(values.size)
                sides.append((values.mean(), error))
            step = sides[1][0] - sides[0][0]
            found.append(step / math.hypot(sides[0][1], sides[1][1], 0.2))
    return np.abs(found)


def test_no_step_is_left_at_the_seams(mosaic) -> None:
    arranged, made = mosaic
    steps = steps_at_seams(arranged, made)
    assert len(steps) >= 4
    assert steps.max() < 4
    assert steps_at_seams(arranged, make_mosaic(arranged, MosaicParameters(level="none"))).max() > 8


def test_fluxes_are_the_same_in_all_tiles(mosaic, wide_stars) -> None:
    _, made = mosaic
    catalogue, flux, _ = fluxes(made.sci, made.var, made.dq, made.metrics.noise_correlation)
    places = pixels_of(made.grid.header(), wide_stars.offsets)
    ratio, moved, which, _ = compared(catalogue, flux, wide_stars, places)
    true = TILES[made.metrics.reference][1]
    assert len(ratio) >= 40
    assert np.median(ratio) == pytest.approx(true, rel=0.01)
    middle = np.median(places, axis=0)
    for east in (True, False):
        for north in (True, False):
            here = ((places[which, 0] < middle[0]) == east) & ((places[which, 1] > middle[1]) == north)
            assert here.sum() >= 5
            assert np.median(ratio[here]) == pytest.approx(np.median(ratio), rel=0.015)
    assert np.abs(moved.mean(axis=0)).max() < 0.1


def test_a_tile_without_a_zero_point_is_scaled_by_stars(mosaic) -> None:
    arranged, _ = mosaic
    k = [one.name for one in arranged.stacks].index("tile22")
    assert arranged.zero_points[k] == pytest.approx(ZERO_POINT + 2.5 * math.log10(0.9), abs=0.03)


def test_north_is_up_on_request(nights) -> None:
    arranged, _ = nights
    made = make_mosaic(arranged, MosaicParameters(orientation="north"))
    assert made.grid.matrix[0, 0] < 0 < made.grid.matrix[1, 1]
    assert made.grid.matrix[0, 1] == made.grid.matrix[1, 0] == 0
    sky = empty(arranged, made)
    assert 0.9 < spread(made.sci[sky] / np.sqrt(made.var[sky])) < 1.1

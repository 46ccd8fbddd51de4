"""Pixels of stacks on the grid of a mosaic: other tangent points, rotations, distortions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated_stacks import CENTRE, START, header_of

from imaging.errors import GroupError
from imaging.header import Header
from imaging.mosaic.mosaic import resampled
from imaging.mosaic.mosaic_input import MosaicInput
from imaging.mosaic.sky_grid import NEGLIGIBLE, Move, make_sky_grid, place
from imaging.pixels.wcs import celestial_wcs
from imaging.registration.resampling.resample import ResampleParameters, array_source
from imaging.sources.detect import CATALOGUE

SIZE = 600
#: Distortion of up to 5 px at the corners.
SIP = [
    ("A_ORDER", 3), ("B_ORDER", 3), ("A_2_0", 1.2e-5), ("B_0_2", -1e-5), ("A_1_1", 6e-6), ("A_3_0", 1.5e-8),
    ("B_1_2", 1e-8),
]  # fmt: skip


def frame(header: Header, sci=None) -> MosaicInput:
    shape = (SIZE, SIZE)
    sci = np.ones(shape, np.float32) if sci is None else sci
    return MosaicInput(
        "f", array_source(sci, np.ones(shape, np.float32), np.zeros(shape, np.uint16)), shape, header,
        np.zeros(0, CATALOGUE), np.zeros(shape, np.uint8), 4.0, 100.0, START, START,
    )  # fmt: skip


def distorted(header: Header) -> Header:
    cards = [("CTYPE1", "RA---TAN-SIP"), ("CTYPE2", "DEC--TAN-SIP"), *SIP]
    return Header([*(c for c in header.cards if not c.keyword.startswith("CTYPE")), *cards])


@pytest.mark.parametrize("north", [False, True])
@pytest.mark.parametrize("sip", [False, True])
def test_positions_are_those_of_astropy(north: bool, sip: bool) -> None:
    near = (CENTRE[0] + 0.05, CENTRE[1] - 0.04)
    here, there = header_of(CENTRE, SIZE, 0.0), header_of(near, SIZE, 40.0)
    stacks = [frame(here), frame(distorted(there) if sip else there)]
    grid = make_sky_grid(stacks, [Move(), Move()], 0, north=north)
    where = place(stacks[1], Move(), grid)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, SIZE - 1, (2, 200))
    sky = celestial_wcs(stacks[1].header).all_pix2world(x, y, 0)
    on_grid = celestial_wcs(grid.header()).all_world2pix(*sky, 0)
    back = where.back(*on_grid)
    assert np.abs(np.array(back) - [x, y]).max() < NEGLIGIBLE
    assert (where.affine is None) == sip
    assert all(
        one.min() >= 0 and one.max() <= n - 1 for one, n in zip(on_grid, grid.shape[::-1], strict=True)
    )


def test_a_distorted_stack_is_followed_in_pieces() -> None:
    """A plane of slopes keeps its values at their places, through the tiles of the transform."""
    header = distorted(header_of(CENTRE, SIZE, 10.0))
    y, x = np.mgrid[:SIZE, :SIZE]
    stack = frame(header, (0.01 * x + 0.02 * y).astype(np.float32))
    base = frame(header_of(CENTRE, SIZE, 0.0))
    grid = make_sky_grid([base, stack], [Move(), Move()], 0)
    where = place(stack, Move(), grid)
    rows, columns = slice(300, 332), where.box[1]
    sci, _, dq = resampled(stack, where, rows, columns, ResampleParameters())
    gx, gy = np.meshgrid(np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop))
    i, j = where.back(gx, gy)
    inside = (i > 8) & (j > 8) & (i < SIZE - 9) & (j < SIZE - 9)
    assert inside.sum() > 10000
    area = np.abs(
        np.gradient(i, axis=1) * np.gradient(j, axis=0) - np.gradient(i, axis=0) * np.gradient(j, axis=1)
    )
    expected = (0.01 * i + 0.02 * j) * area
    assert (dq[inside] == 0).all()
    assert np.abs(sci - expected)[inside].max() < 0.02 * 0.02 * 10 + 5e-3


def test_the_corrected_reference_keeps_its_pixels() -> None:
    stacks = [frame(header_of(CENTRE, SIZE, 5.0)), frame(header_of((CENTRE[0] + 0.02, CENTRE[1]), SIZE, 0.0))]
    moves = [Move(0.4, -0.3, 2e-4), Move()]
    where = place(stacks[0], moves[0], make_sky_grid(stacks, moves, 0))
    assert where.affine is not None
    assert where.affine.is_shift
    assert (where.affine.x0, where.affine.y0) == (round(where.affine.x0), round(where.affine.y0))


def test_a_stack_that_is_far_away_is_named() -> None:
    near, far = frame(header_of(CENTRE, SIZE, 0.0)), frame(header_of((CENTRE[0] + 3.0, CENTRE[1]), SIZE, 0.0))
    stacks = [near, replace(near, name="g"), replace(far, name="far")]
    with pytest.raises(GroupError, match=r"pixels, and mosaic.max_side is 12000: far is far from the others"):
        make_sky_grid(stacks, [Move()] * 3, 0)

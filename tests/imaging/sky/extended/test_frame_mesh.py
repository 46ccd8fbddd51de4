"""The mesh of a frame, its light and its masks, and that of a stack in the blocks of a frame."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.io.planes import Planes, write_planes
from imaging.pixels.dq import DQ
from imaging.sky.extended.frame_mesh import empty_mesh, measure_mesh, measure_stack, mesh_shape, mesh_size


@pytest.mark.parametrize(
    ("shape", "size", "mesh"),
    [((2048, 2048), 32, (2, 64, 64)), ((1024, 1024), 16, (2, 64, 64)), ((384, 300), 16, (2, 24, 19))],
)
def test_frames_have_64_blocks_of_at_least_16_pixels(shape, size, mesh):
    assert mesh_size(shape) == size
    assert mesh_shape(shape) == mesh
    assert np.isnan(empty_mesh(shape)).all()


def test_light_is_medians_above_the_level_and_stars_are_left_out(tmp_path):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:128, 0:128].astype(np.float32)
    sci = (1000 + x + 0.5 * y + rng.normal(0, 1, y.shape)).astype(np.float32)
    mask = np.zeros(y.shape, np.uint8)
    mask[32:48, 32:37] = 1  # a star in a part of a block
    mask[64:80, 64:80] = 1  # the core of a large source
    sci[mask != 0] += 5000
    dq = np.zeros(y.shape, np.uint16)
    dq[:16, :16] = DQ.UNILLUMINATED
    dq[16:32, :16] = DQ.OVERLAP  # behind a source in every sky frame: a measurement all the same
    dq[100, 100] = DQ.BAD_PIXEL
    sci[100, 100] = np.nan
    light, masked = measure_mesh(Planes(write_planes(tmp_path / "d", {"sci": sci})), dq, mask, 1000.0)
    assert np.isnan(light[0, 0])
    known = np.isfinite(light)
    assert known.sum() == 63
    rows, columns = np.mgrid[0:8, 0:8]
    core = (rows == 4) & (columns == 4)
    expected = 16 * columns + 8 * rows + 11.25 + np.where(core, 5000, 0)
    assert light[known] == pytest.approx(expected[known], abs=4)
    assert masked[core] == 1
    assert masked[2, 2] == pytest.approx(5 / 16, abs=0.1)
    assert masked[known].sum() == pytest.approx(1 + 5 / 16, abs=0.1)


@pytest.mark.parametrize("first", [(-20, 30), (200, 0)])
def test_a_stack_is_measured_in_the_blocks_of_a_frame_where_it_covers_them(tmp_path, first):
    rng = np.random.default_rng(2)
    sci = rng.normal(0, 1, (180, 150)).astype(np.float32) + np.arange(150, dtype=np.float32)
    dq, mask = np.zeros(sci.shape, np.uint16), np.zeros(sci.shape, np.uint8)
    mask[60:66, 60:70] = 1
    sci[mask != 0] += 5000
    dq[100:160] = DQ.NO_DATA
    sci[100:160] = np.nan
    found = measure_stack(sci, dq, mask, first=first, shape=(128, 128))
    # The same pixels as a frame of its own.
    y, x = np.mgrid[0:128, 0:128] + np.array(first)[:, None, None]
    inside = (y >= 0) & (y < 180) & (x >= 0) & (x < 150)
    at = np.clip(y, 0, 179), np.clip(x, 0, 149)
    frame = Planes(write_planes(tmp_path / "s", {"sci": np.where(inside, sci[at], np.nan)}))
    quality = np.where(inside, dq[at], DQ.NO_DATA).astype(np.uint16)
    expected = measure_mesh(frame, quality, np.where(inside, mask[at], 0).astype(np.uint8), 0.0)[0]
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).sum() == (0 if first[0] == 200 else 7 * 8)


def test_every_so_many_rows_of_a_plane_are_read(tmp_path):
    data = np.arange(60, dtype=np.float32).reshape(20, 3)
    planes = Planes(write_planes(tmp_path / "p", {"sci": data}))
    assert (planes.every("sci", 4, 1) == data[1::4]).all()
    assert (planes.every("sci", 1) == data).all()

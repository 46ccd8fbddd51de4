"""The bright pixels of a raw frame: which are kept, with which charge, and as bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.instruments.detector import Persistence, Readout
from imaging.pixels.bright_pixels import BrightPixels
from imaging.pixels.raw_pixels import measure

SHAPE = (300, 200)
LAW = Persistence(threshold=60000.0, fraction=0.01, decay=100.0)


def readout(coadds: int = 1) -> Readout:
    """Return a detector of 4 electrons per ADU, saturated at 120000 electrons of one coadd."""
    return Readout(4.0, 5.0, 30000 * coadds, 120000.0, 0.8, (1.0, 0.0, 0.0), 0.2)


def bright_of(adu: NDArray[Any], coadds: int = 1) -> BrightPixels:
    found = measure(lambda rows: adu[rows], SHAPE, readout(coadds), LAW)
    assert found.bright is not None
    assert found.state.bright == len(found.bright.pixels)
    assert found.state.bright_from == LAW.threshold
    return found.bright


def sky(level: float = 800.0, seed: int = 1) -> NDArray[np.int32]:
    return np.rint(np.random.default_rng(seed).normal(level, 15, SHAPE)).astype(np.int32)


def as_plane(bright: BrightPixels) -> NDArray[np.float64]:
    plane = np.zeros(bright.shape)
    plane.ravel()[bright.pixels] = bright.charge
    return plane


@pytest.mark.parametrize("coadds", [1, 3])
def test_pixels_above_the_threshold_are_kept_with_the_charge_of_one_coadd(coadds: int) -> None:
    adu = sky()
    adu[10, 10], adu[290, 199], adu[10, 12] = 20000, 16000, 14000
    plane = as_plane(bright_of(adu * coadds, coadds))
    assert plane[10, 10] == pytest.approx(20000)
    assert plane[290, 199] == pytest.approx(4000)
    assert np.count_nonzero(plane) == 2


def test_the_charge_of_saturated_pixels_is_unknown_also_in_a_core_that_reads_low() -> None:
    adu = sky()
    adu[100:109, 50:59] = 30000
    adu[103:106, 53:56] = 900
    adu[200, 20] = 40000  # alone: encloses nothing
    plane = as_plane(bright_of(adu))
    assert np.isinf(plane[100:109, 50:59]).all()
    assert np.count_nonzero(plane) == 82


def test_pixels_that_were_not_read_leave_nothing() -> None:
    adu = sky()
    adu[20, 40:160] = 20000
    assert not bright_of(adu).pixels.size


def test_a_frame_that_is_bright_all_over_leaves_what_exceeds_its_own_level() -> None:
    adu = sky(18000.0)
    adu[50, 50], adu[60, 60] = 24000, 30000
    bright = bright_of(adu)
    assert bright.base == pytest.approx(72000, rel=1e-3)
    assert bright.pixels.tolist() == [50 * 200 + 50, 60 * 200 + 60]
    assert bright.charge[0] == pytest.approx(24000, rel=0.01)
    assert np.isinf(bright.charge[1])
    assert not bright_of(sky(31000.0)).pixels.size  # saturated all over: as smooth as an empty one


def test_of_very_many_bright_pixels_the_brightest_are_kept_and_all_saturated_ones() -> None:
    adu = sky()
    adu[:40] = np.arange(8000).reshape(40, 200) + 15500
    bright = bright_of(adu)
    assert len(bright.pixels) == 600
    assert bright.charge.min() == pytest.approx(4 * (7400 + 15500) - 60000)
    adu[:40] = 30000
    assert len(bright_of(adu).pixels) == 8000


def test_bytes_keep_positions_and_charges() -> None:
    rng = np.random.default_rng(3)
    pixels = np.sort(rng.choice(SHAPE[0] * SHAPE[1], 500, replace=False)).astype(np.int64)
    charge = rng.uniform(0, 90000, 500).astype(np.float32)
    charge[::7] = np.inf
    bright = BrightPixels(SHAPE, 60000.0, pixels, charge)
    table = bright.to_bytes()
    assert len(table) < 6 * 500
    back = BrightPixels.from_bytes(table)
    assert (back.shape, back.base) == (SHAPE, 60000.0)
    np.testing.assert_array_equal(back.pixels, pixels)
    np.testing.assert_array_equal(np.isinf(back.charge), np.isinf(charge))
    np.testing.assert_allclose(back.charge, charge, atol=0.8)
    nothing = BrightPixels(SHAPE, 60000.0, pixels[:0], charge[:0])
    assert not BrightPixels.from_bytes(nothing.to_bytes()).pixels.size


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda table: b"", "without its head"),
        (lambda table: b"\x09" + table[1:], "unknown kind"),
        (lambda table: table[:-20], "pixels has"),
        (lambda table: table[:20] + b"\0" * 40, "damaged"),
        (lambda table: table[:1] + b"\x0a\0\x0a\0" + table[5:], "impossible positions"),
    ],
)
def test_damaged_bytes_are_refused(damage: Any, message: str) -> None:
    pixels = np.arange(90, dtype=np.int64) * 100
    table = BrightPixels(SHAPE, 60000.0, pixels, np.linspace(0, 1e4, 90, dtype=np.float32)).to_bytes()
    with pytest.raises(ValueError, match=message):
        BrightPixels.from_bytes(damage(table))

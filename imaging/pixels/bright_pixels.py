"""The pixels of a raw frame that are bright enough to leave persistence in later exposures, as a small table."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.instruments.detector import Persistence, Readout
from imaging.pixels.bands import bands

#: Largest part of the pixels that is kept: the brightest.
_MOST: Final = 0.01
#: Pixels are kept from this many times the frame's own level: what is nearer to it leaves light as smooth as the level.
_CONTRAST: Final = 1.25
#: Rows read at a time.
_BAND: Final = 256
#: Most unsaturated pixels that saturated ones may enclose.
_LARGEST_HOLE: Final = 10000
#: Format of the bytes: version, rows, columns, base and unit (electrons), number; then, compressed, the steps from
#: pixel to pixel and the charges in units above the base.
_HEAD: Final = struct.Struct("<BHHffI")
_VERSION: Final = 1
#: Charge of a saturated pixel, and the largest of any other.
_SATURATED: Final = 65535
_LARGEST: Final = _SATURATED - 1


@dataclass(frozen=True)
class BrightPixels:
    """The bright pixels of one exposure.

    Attributes
    ----------
    shape
        Rows and columns of the frame.
    base
        Electrons of one coadd above which a pixel's charge counts: the threshold of the detector, or the median of a
        frame that is brighter all over.
    pixels
        Flat indices, ascending.
    charge
        Electrons of one coadd above the base; infinite for saturated pixels, whose charge is unknown.
    """

    shape: tuple[int, int]
    base: float
    pixels: NDArray[np.int64]
    charge: NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """Return the table as bytes; charges are rounded to 1/65534 of the largest."""
        known = self.charge[np.isfinite(self.charge)]
        unit = max(float(known.max(initial=0.0)) / _LARGEST, 1.0)
        codes = np.where(
            np.isfinite(self.charge), np.minimum(np.rint(self.charge / unit), _LARGEST), _SATURATED
        )
        steps = np.diff(self.pixels, prepend=0).astype("<u4")
        packed = zlib.compress(steps.tobytes() + codes.astype("<u2").tobytes(), 6)
        return _HEAD.pack(_VERSION, *self.shape, self.base, unit, len(self.pixels)) + packed

    @classmethod
    def from_bytes(cls, table: bytes) -> BrightPixels:
        """Return the pixels of a table.

        Raises
        ------
        ValueError
            If the bytes are not a table of bright pixels.
        """
        try:
            version, ny, nx, base, unit, number = _HEAD.unpack_from(table)
        except struct.error:
            raise ValueError("a table of bright pixels without its head") from None
        if version != _VERSION or not (math.isfinite(base) and math.isfinite(unit)) or number > ny * nx:
            raise ValueError("a table of bright pixels of an unknown kind")
        unpack = zlib.decompressobj()
        try:
            plain = unpack.decompress(table[_HEAD.size :], 6 * number + 1)
        except zlib.error as error:
            raise ValueError(f"a damaged table of bright pixels: {error}") from error
        if len(plain) != 6 * number:
            raise ValueError(f"a table of {number} bright pixels has {len(plain)} bytes")
        pixels = np.cumsum(np.frombuffer(plain, "<u4", number), dtype=np.int64)
        codes = np.frombuffer(plain, "<u2", number, 4 * number)
        if number and not (pixels[-1] < ny * nx and (np.diff(pixels) > 0).all()):
            raise ValueError("a table of bright pixels has impossible positions")
        charge = np.where(codes == _SATURATED, np.inf, codes * np.float64(unit)).astype(np.float32)
        return cls((ny, nx), float(base), pixels, charge)


@dataclass
class BrightCollector:
    """Collects the bright pixels of a frame while its rows are read once.

    Parameters
    ----------
    shape
        Rows and columns.
    readout
        The detector's numbers for the frame.
    persistence
        The law of the detector.
    """

    shape: tuple[int, int]
    readout: Readout
    persistence: Persistence
    _pixels: list[NDArray[np.int64]] = field(default_factory=list, init=False)
    _values: list[NDArray[Any]] = field(default_factory=list, init=False)
    _number: int = field(default=0, init=False)

    @property
    def _most(self) -> int:
        return max(1, int(_MOST * self.shape[0] * self.shape[1]))

    @property
    def _per_adu(self) -> float:
        """Electrons of one coadd per ADU of the frame."""
        return self.readout.saturation_electrons / self.readout.saturation

    def take(self, first: int, rows: NDArray[Any], bad: NDArray[np.bool_] | None) -> None:
        """Add rows, of which the first has a number, and their pixels without data."""
        if self._number <= self._most:
            self._keep(first, rows, bad, self.persistence.threshold / self._per_adu)

    def found(
        self,
        read: Callable[[slice], NDArray[Any]],
        without: Callable[[NDArray[Any]], NDArray[np.bool_] | None],
        level: float,
    ) -> BrightPixels:
        """Return the pixels.

        Parameters
        ----------
        read
            Returns rows of the frame; called again for a frame that is bright all over.
        without
            Returns which pixels of some rows have no data.
        level
            Median of the frame, ADU.
        """
        threshold = self.persistence.threshold / self._per_adu
        if level >= self.readout.saturation:  # as smooth as a frame without a bright pixel
            nothing = np.empty(0, np.int64)
            return BrightPixels(
                self.shape, self.readout.saturation_electrons, nothing, np.empty(0, np.float32)
            )
        base = max(threshold, level)
        lowest = (
            min(max(threshold, _CONTRAST * level), self.readout.saturation)
            if level > threshold
            else threshold
        )
        if self._number > self._most or lowest > threshold:
            self._pixels, self._values, self._number = [], [], 0
            for band in bands(self.shape[0], _BAND):
                rows = read(band)
                self._keep(band.start, rows, without(rows), lowest)
        pixels = np.concatenate(self._pixels) if self._pixels else np.empty(0, np.int64)
        values = np.concatenate(self._values) if self._values else np.empty(0)
        saturated = int(np.count_nonzero(values >= self.readout.saturation))
        if len(pixels) > max(self._most, saturated):
            # Many saturated pixels are areas, which take few bytes.
            brightest = np.sort(np.argsort(values, kind="stable")[-max(self._most, saturated) :])
            pixels, values = pixels[brightest], values[brightest]
        charge = (self._per_adu * (values.astype(np.float64) - base)).astype(np.float32)
        charge[values >= self.readout.saturation] = np.inf
        return _with_cores(BrightPixels(self.shape, self._per_adu * base, pixels, charge))

    def _keep(self, first: int, rows: NDArray[Any], bad: NDArray[np.bool_] | None, lowest: float) -> None:
        bright = rows >= lowest
        if bad is not None:
            bright &= ~bad
        there = np.flatnonzero(bright)
        if there.size:
            self._number += there.size
            self._pixels.append(there + first * self.shape[1])
            self._values.append(rows.ravel()[there])


def _with_cores(bright: BrightPixels) -> BrightPixels:
    """Return the pixels with those that saturated ones enclose: a blown core reads low."""
    saturated = bright.pixels[np.isinf(bright.charge)]
    if not saturated.size:
        return bright
    from scipy import ndimage  # late: few frames have saturated pixels

    free = np.ones(bright.shape, bool)
    free.ravel()[saturated] = False
    parts, _ = ndimage.label(free)
    sizes = np.bincount(parts.ravel())
    enclosed = sizes <= _LARGEST_HOLE
    for border in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        enclosed[border] = False
    enclosed[0] = False
    if not enclosed.any():
        return bright
    cores = np.flatnonzero(enclosed[parts.ravel()])
    others = ~np.isin(bright.pixels, cores)
    pixels = np.concatenate([bright.pixels[others], cores])
    charge = np.concatenate([bright.charge[others], np.full(len(cores), np.inf, np.float32)])
    pixels, first = np.unique(pixels, return_index=True)
    return BrightPixels(bright.shape, bright.base, pixels, charge[first])

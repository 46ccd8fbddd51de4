"""The pixels of a frame, assembled from the images of a file when the first rows are read.

`ccdproc` subtracts the overscan and trims. Its level may need all rows of an image, so the assembled frame is kept in
an unnamed temporary file, from which bands of rows are read, and not in memory.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.instruments.detector import Readout
from imaging.instruments.regions import Array, Overscan
from imaging.io.fitsfile import FitsFile, Hdu
from imaging.pixels.raw_pixels import unread

_ITEM: Final = 4


def without_overscan(
    stored: NDArray[Any], array: Array, overscan: Overscan, readout: Readout | None = None
) -> NDArray[np.float32]:
    """Return the part of an image that is kept, with the level of its overscan subtracted.

    Parameters
    ----------
    stored
        The image as stored, ADU, shape ``array.size``.
    array, overscan
        Its regions, and how the level is found.
    readout
        The detector's numbers, to find pixels that were not read out; None to look for none.

    Returns
    -------
    numpy.ndarray, shape of the kept section
        ADU; NaN where a pixel is undefined or was not read out.
    """
    from astropy import units  # late: few instruments need them
    from astropy.modeling.models import Polynomial1D
    from astropy.nddata import CCDData
    from ccdproc import subtract_overscan, trim_image

    values = np.array(stored, np.float64)
    lost = unread(stored, readout) if readout is not None else None
    if lost is not None:
        values[lost] = np.nan
    image = CCDData(values, unit=units.adu)
    kept = trim_image(image, fits_section=array.trim) if array.trim else image
    if array.overscan:
        degree = overscan.degree
        kept = subtract_overscan(
            kept,
            overscan=trim_image(image, fits_section=array.overscan),
            overscan_axis=1 if array.along_rows else 0,
            median=overscan.statistic == "median",
            model=None if degree is None else Polynomial1D(degree),
        )
    return np.asarray(kept.data, np.float32)


def assembled(
    images: Sequence[NDArray[Any]],
    arrays: Sequence[Array],
    overscan: Overscan,
    shape: tuple[int, int],
    readout: Readout | None = None,
) -> NDArray[np.float32]:
    """Return the frame of several images, float32 of ``shape``, ADU; NaN in gaps between the arrays."""
    frame = np.full(shape, np.nan, np.float32)
    for stored, array in zip(images, arrays, strict=True):
        frame[array.place] = without_overscan(stored, array, overscan, readout)
    return frame


class AssembledPixels:
    """The pixels of one open file, assembled at the first reading; threads may share it.

    Parameters
    ----------
    file
        The open file.
    images
        The image of each array.
    arrays, overscan, shape
        The regions of the table, and the rows and columns of the frame.
    readout
        The detector's numbers for the frame.
    """

    def __init__(
        self,
        file: FitsFile,
        images: Sequence[Hdu],
        arrays: Sequence[Array],
        overscan: Overscan,
        shape: tuple[int, int],
        readout: Readout,
    ) -> None:
        self._file, self._images = file, tuple(images)
        self._arrays, self._overscan, self._shape, self._readout = tuple(arrays), overscan, shape, readout
        self._lock = Lock()
        self._kept: io.FileIO | None = None

    def rows(self, rows: slice | None = None) -> NDArray[np.float32]:
        """Return rows of the frame (default: all), ADU, as a new array (n_rows, nx)."""
        first, last, step = (rows or slice(None)).indices(self._shape[0])
        if step != 1:
            raise ValueError(f"rows are read in bands: the step of {rows} must be 1")
        out = np.empty((max(0, last - first), self._shape[1]), np.float32)
        if out.size:
            os.preadv(self._assembled().fileno(), [out.data.cast("B")], first * self._shape[1] * _ITEM)
        return out

    def close(self) -> None:
        """Remove the assembled pixels."""
        with self._lock:
            if self._kept is not None:
                self._kept.close()
                self._kept = None

    def _assembled(self) -> io.FileIO:
        with self._lock:
            if self._kept is None:
                stored = [self._file.rows(one) for one in self._images]
                frame = assembled(stored, self._arrays, self._overscan, self._shape, self._readout)
                with tempfile.TemporaryFile() as kept:
                    kept.write(frame.data.cast("B"))
                    kept.flush()
                    self._kept = io.FileIO(os.dup(kept.fileno()))
            return self._kept

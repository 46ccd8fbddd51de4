"""Checksums that an HDU states, and those of its pixels, whatever software wrote the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.io.data_sums import data_sum
from imaging.io.fitsfile import Hdu


def stated_sum(hdu: Hdu) -> str | None:
    """Return DATASUM as stated in the header of an HDU, or None."""
    return str(hdu.header.get("DATASUM", "")).strip() or None


def has_the_cards_of(hdu: Hdu, other: Hdu) -> bool:
    """Return whether an HDU has the CHECKSUM and DATASUM cards of another one.

    CHECKSUM covers the header too, so two HDUs never share it by chance: equal cards were copied.
    """
    stated = [(one.header.get("CHECKSUM"), one.header.get("DATASUM")) for one in (hdu, other)]
    return stated[0] == stated[1] and None not in stated[0]


def pixel_sum(extname: str, bands: Callable[[], Iterable[NDArray[Any]]]) -> str:
    """Return the DATASUM that nirflow writes for these pixels, whatever their type in this file.

    Parameters
    ----------
    extname
        Name of the plane.
    bands
        Yields the rows of the plane, in bands of a multiple of four rows.
    """
    total, stored = 0, _stored_type(extname, bands)
    for band in bands():
        total = plane_sum(band.astype(stored), total)
    return str(total)


def plane_sum(plane: NDArray[Any], start: int = 0) -> int:
    """Return the DATASUM of a plane as in a product; ``start`` is that of the preceding rows."""
    if plane.dtype == np.uint16:
        plane = (plane ^ np.uint16(0x8000)).view(np.int16)
    stored = np.ascontiguousarray(plane, plane.dtype.newbyteorder(">"))
    return data_sum(stored.reshape(-1).view(np.uint8), start)


def _stored_type(extname: str, bands: Callable[[], Iterable[NDArray[Any]]]) -> type[np.generic]:
    if extname == "DQ":
        return np.uint16
    for band in bands():
        if band.dtype.kind not in "iu":
            return np.float32
        if band.size and (band.min() < 0 or band.max() > np.iinfo(np.uint8).max):
            return np.int32
    return np.uint8

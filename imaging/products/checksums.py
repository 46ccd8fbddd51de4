"""Checksums that an HDU states, and those that its pixels have, whoever wrote the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.io.fitsfile import Hdu
from imaging.products.hdus import plane_sum


def stated_sum(hdu: Hdu) -> str | None:
    """Return DATASUM as the header of an HDU states it, or None."""
    return str(hdu.header.get("DATASUM", "")).strip() or None


def has_the_cards_of(hdu: Hdu, other: Hdu) -> bool:
    """Return whether an HDU states the CHECKSUM and DATASUM of another one.

    CHECKSUM covers the header too, so two HDUs never share it by chance: the cards were copied.
    """
    stated = [(one.header.get("CHECKSUM"), one.header.get("DATASUM")) for one in (hdu, other)]
    return stated[0] == stated[1] and None not in stated[0]


def pixel_sum(extname: str, bands: Callable[[], Iterable[NDArray[Any]]]) -> str:
    """Return the DATASUM that nirflow writes for these pixels, of whatever type they are here.

    Parameters
    ----------
    extname
        Name of the plane.
    bands
        Gives the plane's rows, in bands of a number of rows that four divides.
    """
    total, stored = 0, _stored_type(extname, bands)
    for band in bands():
        total = plane_sum(band.astype(stored), total)
    return str(total)


def _stored_type(extname: str, bands: Callable[[], Iterable[NDArray[Any]]]) -> type[np.generic]:
    if extname == "DQ":
        return np.uint16
    for band in bands():
        if band.dtype.kind not in "iu":
            return np.float32
        if band.size and (band.min() < 0 or band.max() > np.iinfo(np.uint8).max):
            return np.int32
    return np.uint8

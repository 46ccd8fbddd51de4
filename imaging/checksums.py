"""Checksums that an HDU states, and those that its pixels have, whoever wrote the file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.fitsfile import Hdu
from imaging.hdus import plane_sum


def stated_sum(hdu: Hdu) -> str | None:
    """Return DATASUM as the header of an HDU states it, or None."""
    return str(hdu.header.get("DATASUM", "")).strip() or None


def has_the_cards_of(hdu: Hdu, other: Hdu) -> bool:
    """Return whether an HDU states the CHECKSUM and DATASUM of another one.

    CHECKSUM covers the header too, so two HDUs never share it by chance: the cards were copied.
    """
    stated = [(one.header.get("CHECKSUM"), one.header.get("DATASUM")) for one in (hdu, other)]
    return stated[0] == stated[1] and None not in stated[0]


def pixel_sum(extname: str, pixels: NDArray[Any]) -> str:
    """Return the DATASUM that nirflow writes for these pixels, of whatever type they are here."""
    if extname == "DQ":
        return str(plane_sum(pixels.astype(np.uint16)))
    if pixels.dtype.kind not in "iu":
        return str(plane_sum(pixels.astype(np.float32)))
    is_mask = pixels.size == 0 or (pixels.min() >= 0 and pixels.max() <= np.iinfo(np.uint8).max)
    return str(plane_sum(pixels.astype(np.uint8 if is_mask else np.int32)))

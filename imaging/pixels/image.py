"""An image with its variance and data quality, as passed between steps and stored in products."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from imaging.header import Header
from imaging.pixels.dq import UNUSABLE

#: BUNIT of a plane in electrons, and of one without a dimension (a flat).
ELECTRON = "electron"
DIMENSIONLESS = ""


@dataclass(frozen=True)
class Image:
    """Pixels, their variance and quality, and the headers.

    Parameters
    ----------
    sci
        Values in the unit given by BUNIT of ``header`` (default: electrons), float32 (ny, nx).
    var
        Variance of ``sci`` in that unit squared, float32 (ny, nx).
    dq
        Bits of `imaging.pixels.dq.DQ`, uint16 (ny, nx).
    header
        Header of the image extension: WCS, BUNIT.
    primary
        Primary header, of the first input.

    Raises
    ------
    ValueError, TypeError
        If the planes have other shapes or types.
    """

    sci: NDArray[np.float32]
    var: NDArray[np.float32]
    dq: NDArray[np.uint16]
    header: Header
    primary: Header

    def __post_init__(self) -> None:
        for name, dtype in (("sci", np.float32), ("var", np.float32), ("dq", np.uint16)):
            plane = getattr(self, name)
            if plane.dtype != dtype or not plane.dtype.isnative:
                raise TypeError(f"{name} has the type {plane.dtype}, expected native {np.dtype(dtype)}")
            if plane.ndim != 2 or plane.shape != self.sci.shape:
                raise ValueError(f"{name} has the shape {plane.shape}, expected that of sci {self.sci.shape}")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.sci.shape[0], self.sci.shape[1])

    @property
    def unit(self) -> str:
        """Unit of ``sci``: BUNIT (default: electron), empty for a dimensionless flat."""
        return str(self.header.get("BUNIT", ELECTRON)).strip()

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True where a pixel has no measurement (`imaging.pixels.dq.UNUSABLE`), shape (ny, nx)."""
        return (self.dq & np.uint16(UNUSABLE)) != 0


class Reason(IntFlag):
    """Why a pixel is bad."""

    HOT = 1
    COLD = 2
    LOW_RESPONSE = 4
    HIGH_RESPONSE = 8


@dataclass(frozen=True)
class BadPixelMask:
    """A bad pixel mask and the reason for each bad pixel.

    Parameters
    ----------
    bad
        1 where a pixel is bad, 0 elsewhere, uint8 (ny, nx).
    reasons
        Bits of `Reason`, uint8 (ny, nx); 0 where the pixel is good or the reason is unknown.
    header, primary
        Headers, as for an `Image`.
    """

    bad: NDArray[np.uint8]
    reasons: NDArray[np.uint8]
    header: Header
    primary: Header

    def __post_init__(self) -> None:
        for name in ("bad", "reasons"):
            plane = getattr(self, name)
            if plane.dtype != np.uint8 or plane.ndim != 2 or plane.shape != self.bad.shape:
                raise ValueError(f"{name} is {plane.dtype} {plane.shape}, expected uint8 {self.bad.shape}")
        if self.bad.max(initial=0) > 1:
            raise ValueError(f"bad holds {self.bad.max()}; a bad pixel mask is 0 and 1")

    @classmethod
    def from_reasons(cls, reasons: NDArray[np.uint8], *, header: Header, primary: Header) -> BadPixelMask:
        """Create the mask of all pixels that have a reason."""
        return cls((reasons != 0).astype(np.uint8), reasons, header, primary)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.bad.shape[0], self.bad.shape[1])

"""A file with real headers as it was examined, and positions by its world coordinates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from astropy.io import fits
from astropy.wcs import WCS

from benchmarks.headers.archive import ArchiveFile
from imaging.frames.facts import FrameFacts
from imaging.io.examine import Examination


@dataclass(frozen=True)
class Seen:
    """A file, what its examination found, and its headers.

    Attributes
    ----------
    file
        The file of the archive.
    examined
        The examination of a file with these headers.
    headers
        Primary header, and that of the image.
    """

    file: ArchiveFile
    examined: Examination
    headers: tuple[Mapping[str, Any], Mapping[str, Any]]

    @property
    def facts(self) -> FrameFacts:
        """The facts that were read."""
        assert self.examined.facts is not None
        return self.examined.facts


def separation(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the distance of two near positions, arcsec."""
    across = (one[0] - other[0] + 180) % 360 - 180
    return round(3600 * math.hypot(across * math.cos(math.radians(one[1])), one[1] - other[1]), 2)


def position_at(
    image: Mapping[str, Any], pixel: tuple[float, float] | None = None
) -> tuple[float, float] | None:
    """Return the position of a pixel by world coordinates, degrees; None without these.

    Parameters
    ----------
    image
        A header with world coordinates.
    pixel
        x and y, counted from 1; default: the middle of the image.
    """
    names = [f"{name}{axis}" for name in ("CTYPE", "CRPIX", "CRVAL") for axis in (1, 2)]
    names += [f"CD{i}_{j}" for i in (1, 2) for j in (1, 2)]
    if any(image.get(name) is None for name in names):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = WCS(fits.Header({name: image[name] for name in names}))
    x, y = pixel or (image["NAXIS1"] / 2, image["NAXIS2"] / 2)
    ra, dec = wcs.all_pix2world(x, y, 1)
    return float(ra), float(dec)

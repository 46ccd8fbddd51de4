"""The truth of a disturbed frame's pixels: what affects each, and by how many electrons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from imaging.io.atomic import write_complete

#: Persistence counts as affecting a pixel from this many electrons.
LATENT_FROM: Final = 5.0
#: Glow and trails count from this part of the frame's sky level.
LIGHT_FROM: Final = 0.005


class Affected(IntFlag):
    """What affects a pixel of a disturbed frame."""

    NONE = 0
    PROBE = 1  #: the guide probe takes at least half of its depth
    GLOW = 2  #: the probe's glow outside that core
    TRAIL = 4
    PERSISTENCE = 8
    UNREAD = 16
    QUADRANT_OFF = 32


@dataclass(frozen=True)
class AffectedPixels:
    """Planes of a disturbed frame's truth, shape (size, size)."""

    bits: NDArray[np.uint8]  #: `Affected`
    latent: NDArray[np.float32] | None = None  #: mean electrons of persistence
    pattern: NDArray[np.float32] | None = None  #: offsets of channels and rows, electrons


def affected_path(folder: Path, root: str) -> Path:
    """Return the file of a frame's planes in the truth's folder."""
    return folder / "frames" / f"{root}.fits"


def write_affected(path: Path, pixels: AffectedPixels) -> None:
    """Write the planes of one frame."""
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels.bits, name="AFFECTED")])
    for name, plane in (("LATENT", pixels.latent), ("PATTERN", pixels.pattern)):
        if plane is not None:
            hdus.append(fits.ImageHDU(plane.astype(">f4"), name=name))
            hdus[-1].header["BUNIT"] = "electron"
    content = BytesIO()
    hdus.writeto(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_complete(path, [content.getbuffer()], sync=False)


def read_affected(path: Path, size: int) -> AffectedPixels:
    """Read the planes of one frame; a frame without a file has no affected pixels."""
    if not path.is_file():
        return AffectedPixels(np.zeros((size, size), np.uint8))
    with fits.open(path, memmap=False) as hdus:
        bits = hdus["AFFECTED"].data.astype(np.uint8)
        latent, pattern = (
            hdus[name].data.astype(np.float32) if name in hdus else None for name in ("LATENT", "PATTERN")
        )
    return AffectedPixels(bits, latent, pattern)

"""Raw frames in all file formats."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

from astropy.io import fits

WriteRaw = Callable[..., Path]


FORMS = ("", ".gz", ".bz2", ".xz", ".fz")


def compressed(plain: Path, suffix: str) -> Path:
    """Return the frame in another format, next to the plain one."""
    path = plain.with_name(plain.name + suffix)
    match suffix:
        case ".gz":
            path.write_bytes(gzip.compress(plain.read_bytes()))
        case ".bz2":
            path.write_bytes(bz2.compress(plain.read_bytes()))
        case ".xz":
            path.write_bytes(lzma.compress(plain.read_bytes()))
        case ".fz":
            with fits.open(plain) as hdus:
                tiles = fits.CompImageHDU(hdus[1].data, hdus[1].header, compression_type="RICE_1")
                fits.HDUList([fits.PrimaryHDU(header=hdus[0].header), tiles]).writeto(path)
    return path

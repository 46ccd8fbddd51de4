"""Small raw files, made fast: one astropy file whose label, clock and first pixels are overwritten in place."""

from __future__ import annotations

import functools
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.io.raw_file import read_headers

SHAPE = (20, 24)
#: Bytes of the pixels, padded to a block.
_DATA = 2880
DARK: dict[str, Any] = {
    "INSTRUME": "F2", "OBJECT": "Dark", "OBSTYPE": "DARK", "OBSCLASS": "dayCal", "EXPTIME": 120.0, "COADDS": 1,
    "LNRS": 8, "NREADS": 8, "FILTER2": "DK_G0807", "DATE-OBS": "2013-11-21", "UTSTART": "02:00:00",
    "DATALAB": "label-000000",
}  # fmt: skip
SCIENCE: dict[str, Any] = DARK | {
    "OBJECT": "FIELD", "OBSTYPE": "OBJECT", "OBSCLASS": "science", "FILTER2": "Y_G0811", "OBSID": "GS-2013B-Q-1-1",
    "GEMPRGID": "GS-2013B-Q-1",
}  # fmt: skip


@functools.cache
def _template(cards: tuple[tuple[str, Any], ...]) -> bytes:
    pixels = np.arange(SHAPE[0] * SHAPE[1], dtype=np.int32).reshape(SHAPE)
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(list(cards))), fits.ImageHDU(pixels)]).writeto(out)
    return out.getvalue()


def raw_bytes(number: int = 0, kind: dict[str, Any] = DARK, **cards: Any) -> bytes:
    """Return the bytes of a frame, different for each number."""
    complete = _template(tuple((kind | cards).items()))
    clock = f"02:{number // 60 % 60:02d}:{number % 60:02d}"
    named = complete.replace(b"label-000000", b"label-%06d" % number).replace(b"02:00:00", clock.encode())
    first = struct.pack(">2i", number % 1000, len(kind["OBSTYPE"]) + number // 1000)
    return named[:-_DATA] + first + named[-_DATA + len(first) :]


def facts_of(path: Path) -> FrameFacts:
    """Return the facts in a frame's headers."""
    return facts_from_headers(*read_headers(path), name=path.name)

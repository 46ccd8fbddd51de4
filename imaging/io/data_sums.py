"""The checksums that a file states, compared with its bytes (FITS standard 4.0, section 4.4.2.7)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.io.fitsfile import BLOCK, FitsFile, Hdu

_LARGEST_WORD: Final = 0xFFFFFFFF
_CHUNK: Final = 1 << 20


def checksum_problem(file: FitsFile) -> str:
    """Return which checksums in the headers of a file disagree with its bytes; empty if none.

    DATASUM is that of the data of an HDU, CHECKSUM that of the complete HDU: if only CHECKSUM disagrees, a header
    was changed and its pixels are those that were written.
    """
    data = [hdu for hdu in file.hdus if _stated(hdu) is not None]
    problems = []
    for hdu in file.hdus:
        name = hdu.extname or ("the primary HDU" if hdu is file.hdus[0] else "the image")
        has_checksum = isinstance(hdu.header.get("CHECKSUM"), str) and hdu.header["CHECKSUM"].strip()
        if hdu not in data and not has_checksum:
            continue
        total = _sum_of(file, hdu.data_at, hdu.data_at + -(-hdu.data_bytes // BLOCK) * BLOCK)
        stated = _stated(hdu)
        if stated is not None and stated != total:
            problems.append(f"the data of {name} do not add up to DATASUM ({total}, not {stated})")
        elif has_checksum and _sum_of(file, hdu.header_at, hdu.data_at, total) not in (0, _LARGEST_WORD):
            problems.append(f"CHECKSUM of {name} disagrees: its header was changed")
    return "; ".join(problems)


def data_sum(data: NDArray[np.uint8], start: int = 0) -> int:
    """Return the ones' complement sum of big-endian 32-bit integers, the last one padded with zeros.

    astropy sums an HDU that is completely in memory. Here a file is summed chunk by chunk; ``start`` is the
    sum of the preceding chunks.
    """
    whole = data.size // 4 * 4
    total = start + int(data[:whole].view(">u4").sum(dtype=np.uint64))
    if tail := data[whole:].tobytes():
        total += int.from_bytes(tail.ljust(4, b"\0"), "big")
    while total >> 32:
        total = (total & _LARGEST_WORD) + (total >> 32)
    return total


def _sum_of(file: FitsFile, begin: int, end: int, start: int = 0) -> int:
    """Return the sum of the bytes of a file between two offsets; missing ones count as zeros."""
    total, buffer = start, np.empty(_CHUNK, np.uint8)
    while begin < end:
        length = min(_CHUNK, end - begin)
        if (n := file.read_into(buffer[:length].data, begin)) == 0:
            break
        total = data_sum(buffer[:n], total)
        begin += n
    return total


def _stated(hdu: Hdu) -> int | None:
    """Return DATASUM, or None if the header has none that can be read."""
    value = hdu.header.get("DATASUM")
    text = value.strip() if isinstance(value, str) else str(value) if type(value) is int else ""
    return int(text) if text.isdecimal() else None

"""The layout of one FITS file: its HDUs found by their header blocks, its images read in bands of rows.

astropy parses the headers; finding the blocks and reading the pixels is done here, because several steps open
the same file, several threads read it in bands, and it must not be mapped or loaded completely. Why astropy
does not find the blocks: docs/decisions/0021-what-astropy-does.md.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from astropy.io.fits import Header
from astropy.io.fits.verify import VerifyError
from numpy.typing import NDArray

from imaging.errors import FrameError
from imaging.io.descriptors import SharedFile
from imaging.io.limits import check_size

#: Bytes of a FITS block and of a header card (FITS standard 4.0, section 3.1).
BLOCK = 2880
CARD = 80

#: Size of a read that contains the headers of a raw frame (about 100 and 20 cards).
_FIRST_READ = 16 * BLOCK
#: Headers of a file that are longer in total are not headers but pixels without an END card.
LONGEST_HEADERS = 2000 * BLOCK
#: Bytes after the last HDU that are ignored; a stream, or a sparse file, may have any number.
LONGEST_TAIL = 64 * BLOCK
#: Limits on the cards of a frame: a longer axis, or a larger scaling, means a damaged header.
_LONGEST_AXIS = 2**31 - 1
_MOST_AXES = 999
_MOST_FIELDS = 999
_TABLES = ("BINTABLE", "TABLE")
_LARGEST_SCALING = 1e30
_DTYPES = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}


@dataclass(frozen=True)
class Hdu:
    """One HDU: its header and where its data are.

    Attributes
    ----------
    header
        The header as stored.
    data_at, data_bytes
        Offset of the data in the file and their length without padding, bytes.
    """

    header: Header
    data_at: int
    data_bytes: int

    @property
    def extname(self) -> str:
        """EXTNAME, or an empty text."""
        return str(self.header.get("EXTNAME", "")).strip()

    @property
    def is_image(self) -> bool:
        """Whether this is a primary array or an image extension with pixels."""
        return self.data_bytes > 0 and str(self.header.get("XTENSION", "IMAGE")).strip() == "IMAGE"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in numpy's order, without length-1 axes before the last two."""
        return image_shape(self.header)


class FitsFile:
    """A plain FITS file, opened once; it is read by position, so threads may share it.

    Parameters
    ----------
    descriptor
        An open file descriptor; this object owns and closes it.
    name
        File name, for errors.
    path
        Where the file can be opened again: then it need not stay open (`imaging.io.descriptors`).

    Raises
    ------
    FrameError
        If the file is empty, not FITS, shorter than its headers announce, or larger than any product.
    """

    def __init__(self, descriptor: int, name: str, path: Path | None = None) -> None:
        self.name = name
        self.size = os.fstat(descriptor).st_size
        self._file = SharedFile(descriptor, name, path)
        try:
            check_size(name, self.size)
            self.hdus: tuple[Hdu, ...] = self._scan()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``offset``; fewer at the end of the file."""
        with self._file.opened() as descriptor:
            return os.pread(descriptor, length, offset)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset``; return the number of bytes read, fewer at the end of the file."""
        done = 0
        with self._file.opened() as descriptor:
            while done < len(buffer):
                n = os.preadv(descriptor, [buffer[done:]], offset + done)
                if n == 0:
                    break
                done += n
        return done

    def find(self, extname: str) -> Hdu | None:
        """Return the first HDU with that EXTNAME, or None."""
        return next((hdu for hdu in self.hdus if hdu.extname == extname), None)

    def rows(self, hdu: Hdu, rows: slice | None = None) -> NDArray[Any]:
        """Return rows of an image as a new, contiguous array in native byte order.

        Parameters
        ----------
        hdu
            An image of this file.
        rows
            Rows to read, step 1; default: all.

        Returns
        -------
        ndarray, shape (n_rows, nx)
            The stored type. Unsigned integers (BZERO of 2^15 or 2^31) are returned as such; any other BZERO
            and BSCALE give float32 (float64 from 32-bit integers).
        """
        n_rows, n_columns = hdu.shape
        first, last, step = (rows or slice(None)).indices(n_rows)
        if step != 1:
            raise ValueError(f"rows are read in bands: the step of {rows} must be 1")
        stored = np.dtype(_DTYPES[int(hdu.header["BITPIX"])])
        out = np.empty((max(0, last - first), n_columns), stored)
        if out.size == 0:
            return _scaled(out, hdu.header, self.name)
        view = out.data.cast("B")
        if self.read_into(view, hdu.data_at + first * n_columns * stored.itemsize) != len(view):
            raise FrameError(
                self.name, f"rows {first} to {last - 1} could not be read completely; the file was cut short "
                "after it was opened", remedy="Fetch the file again.",
            )  # fmt: skip
        if np.little_endian:
            out.byteswap(inplace=True)
        return _scaled(out, hdu.header, self.name)

    def _scan(self) -> tuple[Hdu, ...]:
        head = self.read(0, _FIRST_READ)
        check_start(head, self.name)
        hdus: list[Hdu] = []
        offset = headers = 0
        while offset < self.size:
            raw, data_at = self._header_bytes(offset, head if offset == 0 else b"", headers)
            if raw is None:
                check_tail(self.name, self.size - offset)
                break
            headers += data_at - offset
            header = parse_header(raw, self.name, offset)
            length = data_length(header, self.name)
            missing = data_at + length - self.size
            if length and missing > 0:
                raise FrameError(
                    self.name, f"truncated: {missing} of the {length} bytes of pixels of HDU {len(hdus)} are "
                    "missing", remedy="Fetch the file again.",
                )  # fmt: skip
            hdu = Hdu(header, data_at, length)
            if hdu.is_image:
                _scaling(header, self.name)
            hdus.append(hdu)
            end = data_at + -(-length // BLOCK) * BLOCK
            if end <= offset:
                raise FrameError(
                    self.name, f"the header at byte {offset} ends before it begins",
                    remedy="Fetch the file again or leave it out.",
                )  # fmt: skip
            offset = end
        return tuple(hdus)

    def _header_bytes(self, offset: int, known: bytes, before: int) -> tuple[bytes | None, int]:
        """Return the header at ``offset`` and the offset of its data; None if no HDU follows.

        ``before`` are the bytes of the headers before it.
        """
        raw = known or self.read(offset, 4 * BLOCK)
        if offset and not raw.startswith(b"XTENSION"):
            return None, offset  # the bytes after the last HDU are not part of it (FITS 4.0, section 3.5)
        checked = 0
        while True:
            if end := end_of_header(raw, checked):
                break
            checked = len(raw) // CARD * CARD
            check_headers(self.name, before + len(raw))
            more = self.read(offset + len(raw), 16 * BLOCK)
            if not more:
                raise FrameError(
                    self.name, f"truncated: the header at byte {offset} has no END card",
                    remedy="Fetch the file again.",
                )  # fmt: skip
            raw += more
        check_headers(self.name, before + end)
        return raw[:end], offset + -(-end // BLOCK) * BLOCK


def check_headers(name: str, length: int) -> None:
    """Refuse a file whose headers have more bytes in total than those of any frame or product."""
    if length > LONGEST_HEADERS:
        raise FrameError(
            name, f"its headers have more than {LONGEST_HEADERS // CARD} cards, or no END card",
            remedy="Fetch the file again or leave it out.",
        )  # fmt: skip


def check_tail(name: str, length: int) -> None:
    """Refuse a file with more than a few blocks after the last HDU."""
    if length > LONGEST_TAIL:
        raise FrameError(
            name, f"more than {LONGEST_TAIL} bytes follow the last HDU and are not part of it",
            remedy="Fetch the file again or leave it out.",
        )  # fmt: skip


def end_of_header(raw: bytes, start: int = 0) -> int:
    """Return the offset after the END card, or 0 if it is missing."""
    at = raw.find(b"END" + b" " * (CARD - 3), start)
    while at >= 0:
        if at % CARD == 0:
            return at + CARD
        at = raw.find(b"END" + b" " * (CARD - 3), at + 1)
    return 0


def parse_header(raw: bytes, name: str, offset: int) -> Header:
    """Parse the header at byte ``offset`` of a file, up to its END card."""
    text = _ascii(raw, name, offset)
    try:
        header = Header.fromstring(text)
        for keyword in ("XTENSION", "EXTNAME"):
            header.get(keyword)  # astropy parses a card on access
    except (VerifyError, ValueError, KeyError) as error:
        raise FrameError(
            name, f"the header cannot be read: {error}", remedy="Correct the header or leave the file out."
        ) from None
    return header


def data_length(header: Header, name: str) -> int:
    """Return the bytes of data that a header announces (FITS standard 4.0, equations 1 and 2)."""
    bitpix = whole_number(header, "BITPIX", name, least=min(_DTYPES))
    if bitpix not in _DTYPES:
        raise _bad(name, "BITPIX", bitpix, "one of " + ", ".join(map(str, _DTYPES)))
    naxis = whole_number(header, "NAXIS", name, most=_MOST_AXES)
    axes = [whole_number(header, f"NAXIS{i}", name) for i in range(1, naxis + 1)]
    parameters = whole_number(header, "PCOUNT", name, 0)
    groups = whole_number(header, "GCOUNT", name, 1, least=1)
    if str(_value(header, "XTENSION", name, "")).strip() in _TABLES:
        _check_table(header, axes, name)
    if naxis == 0:
        return 0
    return abs(bitpix) // 8 * groups * (parameters + math.prod(axes))


def _check_table(header: Header, axes: list[int], name: str) -> None:
    """Refuse columns and rows that take no bytes of the file, because their number is not limited by its size."""
    whole_number(header, "TFIELDS", name, 0, most=_MOST_FIELDS)
    if len(axes) > 1 and axes[0] == 0 and axes[1] > 0:
        raise _bad(name, "NAXIS1", 0, f"the bytes of each of the {axes[1]} rows of the table")


def image_shape(header: Header) -> tuple[int, ...]:
    """Return the shape of an image in numpy's order, without length-1 axes before the last two."""
    axes = [int(header[f"NAXIS{i}"]) for i in range(1, int(header["NAXIS"]) + 1)][::-1]
    while len(axes) > 2 and axes[0] == 1:
        axes.pop(0)
    return tuple(axes)


def _value(header: Header, keyword: str, name: str, default: object = None) -> object:
    try:
        return header.get(keyword, default)
    except (VerifyError, ValueError) as error:
        raise FrameError(
            name, f"the card {keyword} cannot be read: {error}",
            remedy="Fetch the file again or leave it out.",
        ) from None  # fmt: skip


def whole_number(
    header: Header, keyword: str, name: str, default: int | None = None, *,
    least: int = 0, most: int = _LONGEST_AXIS,
) -> int:  # fmt: skip
    """Return the value of a card that is a count."""
    value = _value(header, keyword, name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _bad(name, keyword, value, "a whole number")
    if not least <= value <= most:
        raise _bad(name, keyword, value, f"a whole number from {least} to {most}")
    return value


def _number(header: Header, keyword: str, name: str, default: float) -> float:
    value = _value(header, keyword, name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _bad(name, keyword, value, "a number")
    if not abs(value) <= _LARGEST_SCALING:  # NaN too
        raise _bad(name, keyword, value, f"a number within {_LARGEST_SCALING:g}")
    return value


def _bad(name: str, keyword: str, found: object, expected: str) -> FrameError:
    return FrameError(
        name, "the header does not describe its data", keyword=keyword, found=found, expected=expected,
        remedy="Fetch the file again or leave it out.",
    )  # fmt: skip


def _scaling(header: Header, name: str) -> tuple[float, float]:
    """Return BZERO and BSCALE of an image: its pixels are the stored values times BSCALE plus BZERO."""
    return _number(header, "BZERO", name, 0), _number(header, "BSCALE", name, 1)


def _scaled(stored: NDArray[Any], header: Header, name: str) -> NDArray[Any]:
    zero, scale = _scaling(header, name)
    if scale == 1 and zero == 0:
        return stored
    if scale == 1 and stored.dtype.kind == "i" and zero == 2 ** (8 * stored.itemsize - 1):
        unsigned = stored.view(f"u{stored.itemsize}")
        unsigned ^= unsigned.dtype.type(int(zero))
        return unsigned
    wide = np.dtype(np.float64 if stored.dtype.str[1:] in ("i4", "i8", "f8") else np.float32)
    values = stored.astype(wide)
    values *= wide.type(scale)
    values += wide.type(zero)
    return values


def leading_headers(raw: bytes, name: str) -> list[Header]:
    """Return the headers at the start of a file, up to and including the first with data.

    Parameters
    ----------
    raw
        The first bytes of the file; incomplete headers are left out.
    name
        File name, for errors.
    """
    check_start(raw, name)
    headers: list[Header] = []
    offset = 0
    while end := end_of_header(raw[offset:]):
        headers.append(parse_header(raw[offset : offset + end], name, offset))
        offset += -(-end // BLOCK) * BLOCK
        if data_length(headers[-1], name) or not raw[offset:].startswith(b"XTENSION"):
            break
    return headers


def check_start(raw: bytes, name: str) -> None:
    """Refuse a file that does not begin like a FITS file."""
    if not raw:
        raise FrameError(name, "the file is empty (0 bytes)", remedy="Fetch the file again.")
    if not raw.startswith(b"SIMPLE  ="):
        raise FrameError(
            name, f"not a FITS file: it begins with {raw[:12]!r}, not with SIMPLE",
            remedy="Leave the file out, or fetch it again if it should be FITS.",
        )  # fmt: skip


def _ascii(raw: bytes, name: str, offset: int) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise FrameError(
            name, f"the header at byte {offset} has a non-ASCII byte at {error.start}",
            remedy="Correct the header or fetch the file again.",
        ) from None  # fmt: skip

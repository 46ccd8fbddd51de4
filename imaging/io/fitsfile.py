"""The layout of one FITS file: its HDUs found by their header blocks, its images read in bands of rows.

The cards of a header are read by `imaging.io.cards`; finding the blocks and reading the pixels is done here,
because several steps open the same file, several threads read it in bands, and it must not be mapped or loaded
completely. Why astropy does none of this: docs/decisions/0021-what-astropy-does.md.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from imaging.errors import FrameError
from imaging.header import Header
from imaging.io.cards import CARD, read_cards
from imaging.io.data_cards import DTYPES, bad_card, blank_of, data_length, found_value, image_shape, scaling
from imaging.io.descriptors import SharedFile
from imaging.io.limits import check_size
from imaging.io.other_content import refuse_other_content

#: Bytes of a FITS block (FITS standard 4.0, section 3.1).
BLOCK = 2880
#: The last card; some programs pad it with NUL, or write something behind it.
_END = re.compile(rb"END(?:[ \0]{77}| {5}[^=\0].{71})", re.DOTALL)

#: Types of an HDU with an image: that of the standard, and its predecessor.
_IMAGES = ("IMAGE", "IUEIMAGE")

#: Size of a read that contains the headers of a raw frame (about 100 and 20 cards).
_FIRST_READ = 16 * BLOCK
#: Headers of a file that are longer in total are not headers but pixels without an END card.
LONGEST_HEADERS = 2000 * BLOCK
#: Bytes after the last HDU that are ignored; a stream, or a sparse file, may have any number.
LONGEST_TAIL = 64 * BLOCK


@dataclass(frozen=True)
class Hdu:
    """One HDU: its header and where its data are.

    Attributes
    ----------
    header
        The header; cards that could not be read are missing (`imaging.header.Header.notes`).
    data_at, data_bytes
        Offset of the data in the file and their length without padding, bytes.
    header_at
        Offset of the header.
    """

    header: Header
    data_at: int
    data_bytes: int
    header_at: int = 0

    @property
    def extname(self) -> str:
        """EXTNAME, or an empty text."""
        return str(self.header.get("EXTNAME", "")).strip()

    @property
    def is_image(self) -> bool:
        """Whether this is a primary array or an image extension with pixels."""
        return self.data_bytes > 0 and holds_image(self.header)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in numpy's order, without length-1 axes before the last two."""
        return image_shape(self.header)

    @property
    def blank(self) -> int | None:
        """The stored value of pixels without a value (BLANK); None if it is missing or is not such a value."""
        return blank_of(self.header)


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
            and BSCALE give float32 (float64 from 32-bit integers), and so do rows with undefined pixels (BLANK),
            which are NaN.
        """
        n_rows, n_columns = hdu.shape
        first, last, step = (rows or slice(None)).indices(n_rows)
        if step != 1:
            raise ValueError(f"rows are read in bands: the step of {rows} must be 1")
        stored = np.dtype(DTYPES[int(hdu.header["BITPIX"])])
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
            hdu = Hdu(header, data_at, length, offset)
            if hdu.is_image:
                scaling(header, self.name)
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


def holds_image(header: Header) -> bool:
    """Return whether a header is that of a primary array or of an image extension."""
    return str(header.get("XTENSION", "IMAGE")).strip().upper() in _IMAGES


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
    at = raw.find(b"END", start)
    while at >= 0:
        if at % CARD == 0 and _END.match(raw, at):
            return at + CARD
        at = raw.find(b"END", at + 1)
    return 0


def parse_header(raw: bytes, name: str, offset: int) -> Header:
    """Return the header at byte ``offset`` of a file, up to its END card.

    Raises
    ------
    FrameError
        If it is an extension of unknown type. A card that cannot be read is missing in the header.
    """
    header = read_cards(raw)
    if offset and not isinstance(header.get("XTENSION"), str):
        raise bad_card(name, "XTENSION", found_value(header, "XTENSION"), "the type of an extension, a text")
    return header


def _scaled(stored: NDArray[Any], header: Header, name: str) -> NDArray[Any]:
    zero, scale = scaling(header, name)
    blank = blank_of(header)
    undefined = np.flatnonzero(stored == blank) if blank is not None else np.zeros(0, int)
    if scale == 1 and zero == 0 and not undefined.size:
        return stored
    if (
        scale == 1
        and stored.dtype.kind == "i"
        and zero == 2 ** (8 * stored.itemsize - 1)
        and not undefined.size
    ):
        unsigned = stored.view(f"u{stored.itemsize}")
        return np.bitwise_xor(unsigned, unsigned.dtype.type(int(zero)), out=unsigned)
    wide = np.dtype(np.float64 if stored.dtype.str[1:] in ("i4", "i8", "f8") else np.float32)
    values = np.multiply(stored, wide.type(scale), dtype=wide)
    values += wide.type(zero)
    values.flat[undefined] = np.nan
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
        refuse_other_content(raw, name)
        raise FrameError(
            name, f"not a FITS file: it begins with {raw[:12]!r}, not with SIMPLE",
            remedy="Leave the file out, or fetch it again if it should be FITS.",
        )  # fmt: skip

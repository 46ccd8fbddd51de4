"""The size that a compressed file announces, compared with the limits before it is unpacked.

The headers of a stream (gzip, bzip2) are read as it passes, each before the data that it announces; the
headers and the tile table of a tile-compressed file are read first.
"""

from __future__ import annotations

import gzip
import io
import math
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from imaging.errors import FrameError
from imaging.frames.facts import processing
from imaging.header import Card, Header
from imaging.io.data_cards import data_length, flag, whole_number
from imaging.io.fitsfile import (
    BLOCK,
    FitsFile,
    Hdu,
    check_headers,
    check_start,
    check_tail,
    end_of_header,
    parse_header,
)
from imaging.io.limits import MOST_TILES, TooLargeError, frame_bytes, product_bytes

#: Columns of a tile-compressed image whose tiles are gzip streams, which may contain anything, regardless of
#: the header.
_GZIPPED: Final = "GZIP_COMPRESSED_DATA"
_COMPRESSED: Final = "COMPRESSED_DATA"
#: Compressions, and the parameters that the decoders trust.
_HCOMPRESS: Final = "HCOMPRESS_1"
_CODECS: Final = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "PLIO_1", _HCOMPRESS, "NOCOMPRESS")
_PARAMETERS: Final = {"BLOCKSIZE": (16, 32), "BYTEPIX": (1, 2, 4, 8)}
#: A code and two sides.
_HCOMPRESS_HEADER: Final = 2 + 4 + 4
#: Bytes of an element of a table's column (FITS standard 4.0, table 18), and the maximum for a pixel.
_SIZES: Final = {
    "L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16,
}  # fmt: skip
_WIDEST: Final = 8


def limit_of(primary: Header) -> int:
    """Return the maximum size of a file with this primary header, bytes: smaller for a raw frame than for a product."""
    return product_bytes() if processing(primary)[0] else frame_bytes()


class Announced:
    """A FITS stream whose headers are read as it passes, and which must not exceed what they announce.

    Parameters
    ----------
    name
        File name, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._limit = frame_bytes()
        self._seen = 0
        #: Offset at which the next header begins, or the data of the last one end.
        self._next = 0
        self._header = bytearray()
        self._headers = 0
        self._over = False

    def take(self, chunk: bytes | memoryview) -> None:
        """Read the next bytes of the stream.

        Raises
        ------
        FrameError
            If the stream is not a FITS file, or announces or contains more than a frame or product can have.
        """
        at = 0
        while at < len(chunk):
            if self._over:
                check_tail(self._name, self._seen + len(chunk) - self._next)
                break
            if (skip := self._next - self._seen - at) > 0:
                at += skip
                continue
            until = at + BLOCK - len(self._header) % BLOCK
            self._header += chunk[at:until]
            at = min(until, len(chunk))
            if len(self._header) % BLOCK == 0:
                self._look(self._seen + at)
        self._seen += len(chunk)

    def _look(self, at: int) -> None:
        """Examine the blocks of the header, the last of which ends at a byte of the stream."""
        first = at == len(self._header)
        if first and len(self._header) == BLOCK:
            check_start(bytes(self._header), self._name)
        if not first and not self._header.startswith(b"XTENSION"):
            self._over, self._next = True, at - len(self._header)
            return
        check_headers(self._name, self._headers + len(self._header))
        end = end_of_header(bytes(self._header[-BLOCK:]))
        if not end:
            return
        content = bytes(self._header[: len(self._header) - BLOCK + end])
        header = parse_header(content, self._name, 0 if first else at)
        if first:
            self._limit = limit_of(header)
        length = data_length(header, self._name)
        self._next = at + -(-length // BLOCK) * BLOCK
        if self._next > self._limit:
            raise TooLargeError(self._name, self._next, self._limit)
        self._headers += len(self._header)
        self._header.clear()


def check_tiles(file: FitsFile) -> int:
    """Refuse a tile-compressed file that would unpack to more than a frame or product can have.

    Returns
    -------
    int
        Bytes of all the data when unpacked.

    Raises
    ------
    FrameError
        If it does, or its tiles do not match its image.
    """
    total = check_tile_headers(file)
    for hdu in file.hdus:
        if _is_packed(hdu):
            _check_streams(file, hdu)
    return total


def check_tile_headers(file: FitsFile) -> int:
    """Refuse what `check_tiles` refuses, as far as the headers show it; return the same number."""
    limit, total = limit_of(file.hdus[0].header), 0
    for hdu in file.hdus:
        total += _unpacked_size(hdu, file.name)
        if total > limit:
            raise TooLargeError(file.name, total, limit)
    for hdu in file.hdus:
        if _is_packed(hdu):
            _check_codec(hdu.header, file.name)
    return total


#: Keywords of a tile-compressed image that take the place of those of the table (FITS standard 4.0, section 10.1).
_UNPACKED: Final = re.compile(r"Z(BITPIX|NAXIS\d*|PCOUNT|GCOUNT|EXTEND|BLOCKED)")
_OF_THE_TABLE: Final = re.compile(
    r"BITPIX|NAXIS\d*|PCOUNT|GCOUNT|XTENSION|TFIELDS|T(TYPE|FORM|UNIT|DISP|NULL|SCAL|ZERO|DIM)\d+|THEAP"
    r"|Z(IMAGE|TENSION|SIMPLE|CMPTYPE|QUANTIZ|DITHER0|BLANK|SCALE|ZERO|MASKCMP|DATASUM|HECKSUM|(TILE|NAME|VAL)\d+)"
    r"|CHECKSUM|DATASUM"
)


def unpacked_header(header: Header) -> Header:
    """Return the header that a tile-compressed image has when it is unpacked; any other header unchanged."""
    if not flag(header, "ZIMAGE"):
        return header
    kept = [Card("XTENSION", "IMAGE", "Image extension")]
    for card in header.cards:
        if parts := _UNPACKED.fullmatch(card.keyword):
            kept.append(Card(parts[1], card.value, card.comment))
        elif not _OF_THE_TABLE.fullmatch(card.keyword):
            kept.append(card)
    return Header(kept, unreadable=header.unreadable, notes=header.notes)


def _is_packed(hdu: Hdu) -> bool:
    return flag(hdu.header, "ZIMAGE")


def _unpacked_size(hdu: Hdu, name: str) -> int:
    if not _is_packed(hdu):
        return hdu.data_bytes
    axes, tile = _tiling(hdu.header, name)
    if any(side > max(axis, 1) for side, axis in zip(tile, axes, strict=True)):
        raise _bad_tiles(name, "a tile is larger than the image", tile, f"at most {axes}")
    tiles = math.prod(-(-axis // side) for side, axis in zip(tile, axes, strict=True))
    if max(tiles, int(hdu.header["NAXIS2"])) > MOST_TILES:
        raise _bad_tiles(name, f"the image has more than {MOST_TILES} tiles", tile, "a tile for each row")
    bytes_a_pixel = abs(whole_number(hdu.header, "ZBITPIX", name, least=-64, most=64)) // 8
    return math.prod(axes) * bytes_a_pixel


def _tiling(header: Header, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes of a compressed image and those of a tile; default: a row."""
    number = whole_number(header, "ZNAXIS", name, most=999)
    axes = tuple(whole_number(header, f"ZNAXIS{i}", name) for i in range(1, number + 1))
    rows = (max(axes[0], 1), *(1 for _ in axes[1:])) if axes else ()
    tile = tuple(
        whole_number(header, f"ZTILE{i}", name, side, least=1) for i, side in enumerate(rows, start=1)
    )
    return axes, tile


def _bad_tiles(name: str, problem: str, found: object, expected: str) -> FrameError:
    return FrameError(
        name, problem, keyword="ZTILEn", found=found, expected=expected,
        remedy="Fetch the file again or leave it out.",
    )  # fmt: skip


def _check_codec(header: Header, name: str) -> None:
    """Refuse parameters of the compression that are not in the FITS standard (4.0, section 10.4)."""
    codec = str(header.get("ZCMPTYPE", "")).strip()
    if codec not in _CODECS:
        raise FrameError(
            name, "the compression of its tiles is unknown", keyword="ZCMPTYPE", found=codec,
            expected="one of " + ", ".join(_CODECS), remedy="Compress the file in another way or leave it out.",
        )  # fmt: skip
    i = 1
    while f"ZNAME{i}" in header:
        allowed = _PARAMETERS.get(str(header[f"ZNAME{i}"]).strip().upper())
        found = header.get(f"ZVAL{i}")
        if allowed and (isinstance(found, bool) or found not in allowed):
            raise FrameError(
                name, f"{header[f'ZNAME{i}']} of its compression is invalid", keyword=f"ZVAL{i}", found=found,
                expected="one of " + ", ".join(map(str, allowed)), remedy="Fetch the file again or leave it out.",
            )  # fmt: skip
        i += 1


def _check_streams(file: FitsFile, hdu: Hdu) -> None:
    """Refuse tiles whose streams contain more than the pixels of a tile: gzip and, by their headers, HCOMPRESS."""
    header, name = hdu.header, file.name
    axes, tile = _tiling(header, name)
    most = _WIDEST * math.prod(tile)
    codec = str(header["ZCMPTYPE"]).strip()
    width, rows = int(header["NAXIS1"]), int(header["NAXIS2"])
    heap = hdu.data_at + whole_number(header, "THEAP", name, width * rows)
    end = hdu.data_at + hdu.data_bytes
    for title, column, descriptor in _columns(header):
        gzipped = title == _GZIPPED or (title == _COMPRESSED and codec.startswith("GZIP"))
        if not gzipped and not (title == _COMPRESSED and codec == _HCOMPRESS):
            continue
        for row in range(rows):
            pair = file.read(hdu.data_at + row * width + column, descriptor.size)
            length, at = descriptor.of(pair)
            if length and heap + at + length > end:
                raise FrameError(name, f"tile {row} lies outside the data", remedy="Fetch the file again.")
            if not length:
                continue
            if not gzipped:
                _check_hcompress(file.read(heap + at, min(length, _HCOMPRESS_HEADER)), name, row, axes, tile)
                continue
            with gzip.GzipFile(fileobj=io.BytesIO(file.read(heap + at, length))) as stream:
                if len(stream.read(most + 1)) > most:
                    raise TooLargeError(name, most + 1, most, f"tile {row} would unpack to more than")


def _check_hcompress(
    stream: bytes, name: str, row: int, axes: tuple[int, ...], tile: tuple[int, ...]
) -> None:
    """Refuse a stream that states a size other than that of its tile, because the decoder relies on it."""
    sides, number = [], row
    for axis, side in zip(axes, tile, strict=True):
        tiles = -(-axis // side)
        sides.append(min(side, axis - number % tiles * side))
        number //= tiles
    stated = int.from_bytes(stream[2:6], "big", signed=True), int.from_bytes(stream[6:10], "big", signed=True)
    if min(stated) < 1 or math.prod(stated) != math.prod(sides):
        raise _bad_tiles(
            name, f"the stream of tile {row} has another size than the tile", stated, str(tuple(sides))
        )


class _Descriptor(NamedTuple):
    """Location of a row's array in the heap of a table: a number of elements and an offset."""

    size: int
    element: int

    def of(self, pair: bytes) -> tuple[int, int]:
        """Return length and offset, bytes."""
        half = self.size // 2
        return int.from_bytes(pair[:half], "big") * self.element, int.from_bytes(pair[half:], "big")


def _columns(header: Header) -> Iterator[tuple[str, int, _Descriptor]]:
    """Return the names (in capitals, as case does not matter) and offsets of the variable-length columns."""
    offset = 0
    for i in range(1, int(header.get("TFIELDS", 0)) + 1):
        form = str(header.get(f"TFORM{i}", "")).strip()
        letters = form.lstrip("0123456789")
        if letters[:1] in ("P", "Q"):
            title = str(header.get(f"TTYPE{i}", "")).strip().upper()
            yield title, offset, _Descriptor(_SIZES[letters[0]], _SIZES.get(letters[1:2], 1))
        offset += column_width(form)


def column_width(form: str) -> int:
    """Return the bytes of a table's column in a row, from its TFORM."""
    letters = form.lstrip("0123456789")
    count = int(form[: len(form) - len(letters)] or 1)
    return -(-count // 8) if letters[:1] == "X" else count * _SIZES.get(letters[:1], 0)

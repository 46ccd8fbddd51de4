"""The HDUs of a product, built by astropy, with checksums, and written to a file that is complete or missing.

astropy computes DATASUM and CHECKSUM and writes headers and data. This module adds two things: the comments
of the checksum cards contain no time, so the same product always has the same bytes; and the planes are
passed to astropy read-only, so that it copies one plane at a time instead of swapping the bytes of an array
that other threads may be reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from astropy.io.fits import BinTableHDU, Card, Column, HDUList, Header, ImageHDU, PrimaryHDU
from numpy.typing import NDArray

from imaging.io.atomic import AsideFile, complete_file
from imaging.printable import ascii_text

HDU: TypeAlias = PrimaryHDU | ImageHDU | BinTableHDU
Cards = Sequence[Card | tuple[Any, ...]]

#: Columns of a table by the type of their values in numpy.
_COLUMN_FORMATS: Final = {"i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D", "u1": "B", "b1": "L"}


def primary_hdu(cards: Cards) -> PrimaryHDU:
    """Build a primary HDU without data, for a file with extensions."""
    hdu = PrimaryHDU(header=Header(cards))
    hdu.header.set("EXTEND", True, after="NAXIS")  # astropy would add it after the checksum
    return _with_checksums(hdu)


def image_hdu(extname: str, plane: NDArray[Any], cards: Cards) -> ImageHDU:
    """Build an image extension of a float32, uint8, uint16 or int32 plane of shape (ny, nx)."""
    shown = plane.view()
    shown.flags.writeable = False
    header = Header([("EXTNAME", extname), ("EXTVER", 1), *cards])
    return _with_checksums(ImageHDU(shown, header))


def table_hdu(
    extname: str,
    rows: NDArray[Any],
    *,
    units: Mapping[str, str] | None = None,
    meanings: Mapping[str, str] | None = None,
    extver: int | None = None,
    cards: Cards = (),
) -> BinTableHDU:
    """Build a binary table from a structured array.

    Parameters
    ----------
    extname
        Name of the extension.
    rows
        One field per column: integers, floats, booleans or texts (escaped to printable ASCII).
    units
        Unit of each column, by name; a unit of the FITS standard.
    meanings
        What each column is, by name: the comment of its card TTYPEn.
    extver
        EXTVER, for a table that belongs to the image with that number.
    cards
        Further cards of the header.

    Raises
    ------
    TypeError
        If the type of a column is not supported.
    ValueError
        If a unit is not in the FITS standard.
    """
    columns = [_column(name, rows[name], (units or {}).get(name)) for name in rows.dtype.names or ()]
    named: list[tuple[Any, ...]] = [("EXTNAME", extname)]
    if extver is not None:
        named.append(("EXTVER", extver))
    hdu = BinTableHDU.from_columns(columns, Header([*named, *cards]), nrows=len(rows))
    for n, name in enumerate(rows.dtype.names or (), start=1):
        if meaning := (meanings or {}).get(name):
            hdu.header.comments[f"TTYPE{n}"] = ascii_text(meaning)
    return _with_checksums(hdu)


def write_hdus(path: Path, hdus: Sequence[HDU]) -> str:
    """Write HDUs as one FITS file under a temporary name, sync it and rename it.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    hdus
        A primary HDU and its extensions, in order.

    Returns
    -------
    str
        sha256 of the file.

    Raises
    ------
    NirflowError
        If the file cannot be written; nothing is left behind.
    """
    with complete_file(path) as file:
        # A card of the raw header that astropy can neither read nor correct must not prevent the product.
        try:
            HDUList(list(hdus)).writeto(_Target(file), output_verify="ignore")
        except _FailedWrite as failed:
            raise failed.error from None
    return file.sha256


class _Target:
    """Output for astropy, which passes headers as bytes and pixels as big-endian arrays."""

    def __init__(self, file: AsideFile) -> None:
        self._file = file
        self.tell = file.tell

    def write(self, part: bytes | memoryview) -> int:
        try:
            return self._file.write(np.frombuffer(part, np.uint8).data)
        except OSError as error:
            raise _FailedWrite(error) from error


class _FailedWrite(Exception):
    """An OSError on its way through astropy, which would replace it by another one without its number."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def datasum_of(hdu: HDU) -> str:
    """Return the DATASUM of an HDU built here."""
    return str(hdu.header["DATASUM"])


def _with_checksums(hdu: Any) -> Any:
    hdu.add_datasum(when="data unit checksum")
    hdu.add_checksum(when="HDU checksum", override_datasum=True)
    return hdu


def _column(name: str, values: NDArray[Any], unit: str | None) -> Column:
    if unit:
        from astropy.units import Unit  # imported late: most processes write no table

        Unit(unit, format="fits")  # other software loses a unit that the standard does not have
    if values.dtype.kind == "U":
        texts = [ascii_text(str(value)).encode("ascii") for value in values]
        values = np.array(texts, f"S{max([1, *map(len, texts)])}")
    if values.dtype.kind == "S":
        return Column(name, f"{max(1, values.dtype.itemsize)}A", unit, array=values)
    if values.dtype.str[1:] not in _COLUMN_FORMATS:
        # int8, uint16 and uint32 have no column type without a zero point: use the next wider one.
        if values.dtype.kind not in "iu":
            raise TypeError(f"a table has no column for {values.dtype}")
        values = values.astype(np.int32 if values.dtype.itemsize < 4 else np.int64)
    return Column(name, _COLUMN_FORMATS[values.dtype.str[1:]], unit, array=values)

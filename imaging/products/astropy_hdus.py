"""The HDUs of a product, built by astropy, with checksums, and written to a file that is complete or missing.

astropy computes DATASUM and CHECKSUM and writes headers and data. This module adds three things: the cards
of raw frames become cards that FITS allows; the comments of the checksum cards contain no time, so the same
product always has the same bytes; and the planes are passed to astropy read-only, so that it copies one plane
at a time instead of swapping the bytes of an array that other threads may be reading.

No other module that reads or writes frames and products knows astropy's headers.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from astropy.io import fits
from astropy.io.fits import BinTableHDU, Column, HDUList, ImageHDU, PrimaryHDU
from numpy.typing import NDArray

from imaging.header import COMMENTARY, Card
from imaging.io.atomic import AsideFile, complete_file
from imaging.io.cards import CARD
from imaging.pixels.image import Image
from imaging.pixels.wcs import celestial_wcs
from imaging.printable import ascii_text

if TYPE_CHECKING:
    from astropy.nddata import CCDData

HDU: TypeAlias = PrimaryHDU | ImageHDU | BinTableHDU
Cards = Sequence[Card | tuple[Any, ...]]

#: Columns of a table by the type of their values in numpy.
_COLUMN_FORMATS: Final = {"i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D", "u1": "B", "b1": "L"}


def primary_hdu(cards: Cards) -> PrimaryHDU:
    """Build a primary HDU without data, for a file with extensions."""
    hdu = PrimaryHDU(header=fits_header(cards))
    hdu.header.set("EXTEND", True, after="NAXIS")  # astropy would add it after the checksum
    return _with_checksums(hdu)


def image_hdu(extname: str, plane: NDArray[Any], cards: Cards) -> ImageHDU:
    """Build an image extension of a float32, uint8, uint16 or int32 plane of shape (ny, nx)."""
    shown = plane.view()
    shown.flags.writeable = False
    header = fits_header([("EXTNAME", extname), ("EXTVER", 1), *cards])
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
    hdu = BinTableHDU.from_columns(columns, fits_header([*named, *cards]), nrows=len(rows))
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
        try:
            HDUList(list(hdus)).writeto(_Target(file), output_verify="ignore")
        except _FailedWrite as failed:
            raise failed.error from None
    return file.sha256


def fits_header(cards: Iterable[Card | tuple[Any, ...]]) -> fits.Header:
    """Return cards as a header of astropy, texts in printable ASCII; valid cards of a file are kept as they are."""
    return fits.Header([_fits_card(card if isinstance(card, Card) else Card(*card)) for card in cards])


def _fits_card(card: Card) -> fits.Card:
    if card.image:
        return fits.Card.fromstring(card.image)
    value = ascii_text(card.value) if isinstance(card.value, str) else card.value
    if card.keyword in COMMENTARY:
        return fits.Card(card.keyword, str(value)[: CARD - 8])
    comment = ascii_text(card.comment)
    if len(card.keyword) <= 8 and " " not in card.keyword:
        return fits.Card(card.keyword, value, _fitting(comment, value))
    # A text of a HIERARCH card does not continue on another card.
    keyword = f"HIERARCH {card.keyword}"
    room = CARD - len(keyword) - 3
    if isinstance(value, str):
        while value and len(value) + value.count("'") + 2 > room:
            value = value[:-1]
        taken = len(value) + value.count("'") + 2
    else:
        taken = len(str(value))
    return fits.Card(keyword, value, comment if taken + 3 + len(comment) <= room else "")


def _fitting(comment: str, value: object) -> str:
    """Return a comment cut to the room behind a number, or none if it has no room behind a text."""
    if not isinstance(value, str):
        return comment[: CARD - 13 - max(20, len(repr(value)))]
    # The value begins in column 11, is quoted (inner quotes doubled), and " / " precedes the comment.
    taken = 10 + max(20, 2 + len(value) + value.count("'")) + 3
    return comment if taken + len(comment) <= CARD else ""


def to_ccd(image: Image) -> CCDData:
    """Return an image as astropy's CCDData, without copying the pixels.

    Returns
    -------
    CCDData
        With unit, variance, mask (unusable pixels), flags (all DQ bits), the celestial WCS if the header has
        one, and the cards of both headers as meta; those of the extension take precedence.
    """
    from astropy import units
    from astropy.nddata import CCDData, VarianceUncertainty

    unit = units.Unit(image.unit) if image.unit else units.dimensionless_unscaled
    more = [card for card in image.primary.cards if card.keyword not in image.header]
    return CCDData(
        image.sci,
        unit=unit,
        uncertainty=VarianceUncertainty(image.var, unit=unit**2, copy=False),
        mask=image.mask,
        flags=image.dq,
        wcs=celestial_wcs(image.header, image.shape),
        meta=fits_header([*image.header.cards, *more]),
    )


def plain_ccd(path: Path) -> CCDData | None:
    """Return the first image of a FITS file as CCDData; None for a file with a plane SCI, or without an image.

    Its unit is electrons unless its BUNIT states another one.
    """
    from astropy.nddata import CCDData

    with fits.open(path) as hdus:
        images = [n for n, hdu in enumerate(hdus) if hdu.is_image and hdu.header.get("NAXIS") == 2]
        if not images or any(hdu.name == "SCI" for hdu in hdus):
            return None
        stated = hdus[images[0]].header.get("BUNIT")
    return CCDData.read(path, hdu=images[0], unit=None if stated else "electron")


def table_columns(file: io.FileIO, extname: str) -> dict[str, NDArray[Any]]:
    """Return the columns of a table of a FITS file; its layout has been checked."""
    with fits.open(file, memmap=False) as hdus:
        data = hdus[extname].data
        return {name: np.array(data[name]) for name in data.columns.names}


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
        # astropy drops trailing blanks after it has computed the checksum.
        texts = [ascii_text(str(value)).rstrip(" ").encode("ascii") for value in values]
        values = np.array(texts, f"S{max([1, *map(len, texts)])}")
    if values.dtype.kind == "S":
        return Column(name, f"{max(1, values.dtype.itemsize)}A", unit, array=values)
    if values.dtype.str[1:] not in _COLUMN_FORMATS:
        # int8, uint16 and uint32 have no column type without a zero point: use the next wider one.
        if values.dtype.kind not in "iu":
            raise TypeError(f"a table has no column for {values.dtype}")
        values = values.astype(np.int32 if values.dtype.itemsize < 4 else np.int64)
    return Column(name, _COLUMN_FORMATS[values.dtype.str[1:]], unit, array=values)

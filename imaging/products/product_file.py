"""Product files: multi-extension FITS with SCI, VAR and DQ, written completely, read in bands of rows.

They can be read by nirflow, by astropy's CCDData, and by astrodata and DRAGONS like their own files.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.header import Header
from imaging.io.announced import column_width
from imaging.io.compressed import compression, reading, unpacked_descriptor
from imaging.io.data_cards import whole_number
from imaging.io.data_sums import data_sum
from imaging.io.fitsfile import FitsFile, Hdu
from imaging.io.limits import RECORD_ROWS, TooLargeError, open_regular, table_bytes, table_rows
from imaging.kinds import KINDS, is_mask
from imaging.pixels.bands import bands
from imaging.pixels.dq import DQ, gemini_bits
from imaging.pixels.image import DIMENSIONLESS, BadPixelMask, Image
from imaging.products.astropy_hdus import (
    HDU,
    datasum_of,
    image_hdu,
    primary_hdu,
    table_columns,
    table_hdu,
    write_hdus,
)
from imaging.products.checksums import has_the_cards_of, pixel_sum, stated_sum
from imaging.products.header_cards import Record, extension_cards, primary_cards
from imaging.products.header_cards import product_name as product_name
from imaging.products.origin import LineageLabel, Origin
from imaging.products.product_tables import HistoryRow, LineageRow, Plane, ProvenanceRow, Table, rows_to_array

#: Rows, and bytes, that are read at a time; both are multiples of 32 bits, the unit of checksums.
_BAND = 256
_CHUNK = 8 << 20
#: EXTNAME of the table of reasons for bad pixels.
REASONS = "REASONS"
#: EXTNAME of the plane of the pixels with glow, which have no bit in a written DQ.
GLOW = "GLOW"
#: EXTNAMEs of the tables of a product's inputs and processing.
_RECORDS = ("HISTORY", "PROVENANCE", "LINEAGE")
#: Unit of a plane of flags: astropy refuses an image that states none.
_FLAGS_UNIT = ("BUNIT", DIMENSIONLESS, "Unit of the pixels")


@dataclass(frozen=True)
class WrittenProduct:
    """A product on disk.

    Attributes
    ----------
    path
        The file.
    sha256
        sha256 of all its bytes.
    datasums
        DATASUM of each plane by EXTNAME: the identity of the pixels.
    """

    path: Path
    sha256: str
    datasums: dict[str, str]


def write_product(
    path: Path,
    image: Image | BadPixelMask,
    record: Record,
    *,
    object_mask: NDArray[np.uint8] | None = None,
    maps: Mapping[str, Plane] | None = None,
    tables: Mapping[str, Table] | None = None,
) -> WrittenProduct:
    """Write a product as a multi-extension FITS file under a temporary name, sync it and rename it.

    Parameters
    ----------
    path
        The file; an existing one is replaced (`imaging.products.placing.place_product` does not replace).
    image
        Planes and headers. DQ is written without `DQ.GLOW`, of which a plane GLOW is made. A bad pixel mask becomes
        one uint8 image, SCI, and a table of reasons: other software takes every additional image for a mask.
    record
        What the product is, its inputs and processing.
    object_mask
        Plane of a science image, 1 on sources, shape (ny, nx).
    maps
        Further planes of a science image by EXTNAME.
    tables
        Further tables by EXTNAME; OBJCAT belongs to the image.

    Returns
    -------
    WrittenProduct
        Path, sha256 and the planes' DATASUMs. The same pixels give the same DATASUMs; the sha256 also depends
        on the time stamps.

    Raises
    ------
    NirflowError
        If the file cannot be written; nothing is left behind.
    """
    planes = _mask_planes(image, record) if isinstance(image, BadPixelMask) else _image_planes(image, record)
    if object_mask is not None:
        shared = extension_cards(image.header, record, image.shape)
        flags = np.ascontiguousarray(object_mask, np.uint8)
        planes.append(image_hdu("OBJMASK", flags, [*shared, _FLAGS_UNIT]))
    if isinstance(image, Image) and (image.dq & np.uint16(DQ.GLOW)).any():
        shared = extension_cards(image.header, record, image.shape)
        lit = ((image.dq & np.uint16(DQ.GLOW)) > 0).astype(np.uint8)
        planes.append(image_hdu(GLOW, lit, [*shared, _FLAGS_UNIT]))
    for name, plane in (maps or {}).items():
        shared = extension_cards(image.header, record, image.shape)
        planes.append(image_hdu(name, plane.pixels, [*shared, ("BUNIT", plane.unit, "Unit of the pixels")]))
    described = [
        table_hdu(
            name,
            table.rows,
            units=table.units,
            meanings=table.meanings,
            extver=1 if name == "OBJCAT" else None,
        )
        for name, table in (tables or {}).items()
    ]
    if isinstance(image, BadPixelMask):
        described.append(table_hdu(REASONS, _reason_rows(image)))
    sums = {plane.name: datasum_of(plane) for plane in planes}
    name = record.lineage[0].step if record.lineage else product_name(record.inputs[0], record.kind)
    label = LineageLabel(name, record.key, sums)
    described += [
        table_hdu("HISTORY", rows_to_array(record.history, HistoryRow)),
        table_hdu("PROVENANCE", rows_to_array(record.provenance, ProvenanceRow)),
        table_hdu("LINEAGE", rows_to_array(record.lineage, LineageRow), cards=label.cards()),
    ]
    primary = primary_hdu(primary_cards(image.primary, record, len(planes) + len(described)))
    sha256 = write_hdus(path, [primary, *planes, *described])
    return WrittenProduct(path, sha256, sums)


class ProductFile:
    """A product open for reading by rows: ours or DRAGONS', compressed or not; threads may share it.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FrameError
        If it cannot be read, is damaged, or has neither a SCI nor a DQ plane.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path):
            self._file = FitsFile(_plain_descriptor(path), path.name)
        self.primary: Header = self._file.hdus[0].header
        self._planes: dict[str, Hdu] = {}
        for hdu in self._file.hdus:
            if hdu.is_image:
                self._planes.setdefault(hdu.extname, hdu)
        first = self._planes.get("SCI") or self._planes.get("DQ")
        if first is None:
            self.close()
            raise FrameError(
                path.name, "not a product: it has neither a SCI nor a DQ plane, but "
                f"{', '.join(name or 'an unnamed image' for name in self._planes) or 'no image'}",
                remedy="Provide a processed dark, flat, bad pixel mask or image.",
            )  # fmt: skip
        self.header: Header = first.header
        self.shape: tuple[int, int] = (first.shape[0], first.shape[1])

    def __contains__(self, extname: str) -> bool:
        return extname in self._planes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, at the latest together with the object."""
        self._file.close()

    @cached_property
    def facts(self) -> FrameFacts:
        """Facts of the product."""
        return facts_from_headers(self.primary, self.header, name=self.path.name)

    @property
    def planes(self) -> tuple[str, ...]:
        """EXTNAMEs of the images."""
        return tuple(self._planes)

    def shape_of(self, extname: str) -> tuple[int, ...]:
        """Return the shape of a plane, in numpy's order."""
        return self._plane(extname).shape

    def rows(self, extname: str, rows: slice | None = None) -> NDArray[Any]:
        """Return rows of a plane (default: all), shape (n_rows, nx).

        DQ is uint16, a mask (OBJMASK, the SCI of a bad pixel mask) uint8, everything else float32.
        """
        pixels = self._file.rows(self._plane(extname), rows)
        if extname == "DQ":
            return pixels.astype(np.uint16, copy=False)
        return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32, copy=False)

    def bad_pixels(self, rows: slice | None = None) -> NDArray[np.uint8]:
        """Return 1 for the bad pixels of a bad pixel mask, whether its plane is SCI or DQ; shape (n_rows, nx)."""
        pixels = self.rows("DQ" if "DQ" in self else "SCI", rows)
        bad = (pixels.astype(np.uint16) & np.uint16(DQ.BAD_PIXEL)) != 0
        return bad.astype(np.uint8)

    def datasums(self) -> dict[str, str]:
        """Return the DATASUM of each plane by EXTNAME, computed if the header has none."""
        return {
            name: str(hdu.header.get("DATASUM") or self._summed(hdu)).strip()
            for name, hdu in self._planes.items()
        }

    def pixel_sums(self) -> dict[str, str]:
        """Return the DATASUM that nirflow would write for each plane, by EXTNAME: the identity of the pixels.

        Other software may store the same pixels with another type, or with the cards of another plane.
        """
        return {name: self._pixel_sum(name) for name in self._planes}

    def damaged_planes(self) -> tuple[str, ...]:
        """Return the planes whose pixels do not match the DATASUM in the header.

        astrodata writes the cards of SCI, including CHECKSUM and DATASUM, with every plane, and integers as
        uint16. The sum of such a plane is taken from the label of the product's own LINEAGE table; without a
        label the plane counts as having no DATASUM.
        """
        return tuple(name for name in self._planes if self._is_damaged(name))

    def table_header(self, extname: str) -> Header | None:
        """Return the header of a table, or None if the product has no such table."""
        hdu = self._file.find(extname)
        return None if hdu is None or hdu.is_image else hdu.header

    def _is_damaged(self, name: str) -> bool:
        hdu, first = self._planes[name], self._planes.get("SCI")
        stated = stated_sum(hdu)
        if stated is None or stated == str(self._summed(hdu)):
            return False
        if len(hdu.shape) != 2:
            return True
        found = self._pixel_sum(name)
        if first is None or hdu is first or not has_the_cards_of(hdu, first):
            return stated != found
        return self._own_sums.get(name, found) != found

    @cached_property
    def _own_sums(self) -> Mapping[str, str]:
        """Return the DATASUM of each plane from the label of the product's own LINEAGE table."""
        header = self.table_header("LINEAGE")
        label = LineageLabel.of(header) if header is not None else LineageLabel()
        return label.datasums if label.belongs_to(Origin.of(self.primary)) else {}

    def _pixel_sum(self, name: str) -> str:
        hdu = self._planes[name]
        return pixel_sum(name, lambda: (self._file.rows(hdu, rows) for rows in bands(hdu.shape[0], _BAND)))

    def _plane(self, extname: str) -> Hdu:
        if extname not in self._planes:
            raise FrameError(
                self.path.name, f"no {extname} plane (found {', '.join(self._planes)})",
                remedy="Provide a product that has it.",
            )  # fmt: skip
        return self._planes[extname]

    def _summed(self, hdu: Hdu) -> int:
        total, end = 0, hdu.data_at + hdu.data_bytes
        for at in range(hdu.data_at, end, _CHUNK):
            part = self._file.read(at, min(_CHUNK, end - at))
            total = data_sum(np.frombuffer(part, np.uint8), total)
        return total


def read_product(path: Path, *, rows: slice | None = None) -> Image:
    """Read a product, ours or DRAGONS', as an `Image`.

    A bad pixel mask gives DQ with the bad pixels, SCI with the same as 0 and 1, and no variance. A missing
    plane is an error, not zeros.
    """
    with ProductFile(path) as product:
        if is_mask(product.facts.product_kind):
            bad = product.bad_pixels(rows)
            flags = bad.astype(np.uint16) * np.uint16(DQ.BAD_PIXEL)
            header = product.header.copy()
            header["BUNIT"] = DIMENSIONLESS
            return Image(
                bad.astype(np.float32), np.zeros(bad.shape, np.float32), flags, header, product.primary
            )
        sci, var, dq = (product.rows(name, rows) for name in ("SCI", "VAR", "DQ"))
        return Image(sci, var, dq, product.header, product.primary)


def datasums(path: Path) -> dict[str, str]:
    """Return the DATASUM of each plane of a product by EXTNAME."""
    with ProductFile(path) as product:
        return product.datasums()


def read_table(path: Path, extname: str) -> NDArray[Any] | None:
    """Read a table of a product as a structured array (texts as str); None if it has no such table.

    Raises
    ------
    FrameError
        If it cannot be read, has more rows than such a table of a product can have, or has columns that do
        not match the bytes of its rows or have variable length (several values may refer to the same bytes).
    """
    with reading(path), io.FileIO(_plain_descriptor(path)) as file:
        with FitsFile(os.dup(file.fileno()), path.name) as layout:
            found = layout.find(extname)
            if found is None:
                return None
            _check_table(path.name, extname, found.header)
        columns = table_columns(file, extname)
    rows = max(map(len, columns.values()), default=0)
    table = np.empty(rows, [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table


def _plain_descriptor(path: Path) -> int:
    return unpacked_descriptor(path) if compression(path) else open_regular(path)


def _check_table(name: str, extname: str, header: Header) -> None:
    width, rows = (whole_number(header, axis, name) for axis in ("NAXIS1", "NAXIS2"))
    if width * rows > table_bytes():
        raise TooLargeError(name, width * rows, table_bytes(), f"table {extname} has")
    most = RECORD_ROWS if extname in _RECORDS else table_rows()
    if rows > most:
        raise _no_such_table(name, f"table {extname} has {rows} rows, and that of a product at most {most}")
    fields = whole_number(header, "TFIELDS", name, 0)
    if rows * fields > table_bytes():  # some columns may take no bytes of the file
        raise _no_such_table(name, f"table {extname} has {rows} rows of {fields} columns")
    forms = [str(header.get(f"TFORM{i}", "")).strip() for i in range(1, fields + 1)]
    if any(form.lstrip("0123456789").startswith(("P", "Q")) for form in forms):
        raise _no_such_table(name, f"table {extname} has columns of variable length")
    if header.get("XTENSION") == "BINTABLE" and sum(map(column_width, forms)) != width:
        raise _no_such_table(name, f"the columns of table {extname} do not have {width} bytes per row")


def _no_such_table(name: str, problem: str) -> FrameError:
    return FrameError(name, problem, remedy="Provide the original product.")


def _image_planes(image: Image, record: Record) -> list[HDU]:
    shared = extension_cards(image.header, record, image.shape)
    unit = KINDS[record.kind].unit
    sci_unit = ("BUNIT", unit, "Unit of the pixels")
    var_unit = ("BUNIT", f"{unit}2" if unit else unit, "Unit of the pixels")
    utype = ("UTYPE", "VarianceUncertainty", "What astropy takes this for")
    described = extension_cards(image.header, record, image.shape, primary=image.primary)
    return [
        image_hdu("SCI", image.sci, [*described, sci_unit]),
        image_hdu("VAR", image.var, [*shared, var_unit, utype]),
        image_hdu("DQ", gemini_bits(image.dq), [*shared, _FLAGS_UNIT]),
    ]


def _mask_planes(mask: BadPixelMask, record: Record) -> list[HDU]:
    described = extension_cards(mask.header, record, mask.shape, primary=mask.primary)
    return [image_hdu("SCI", mask.bad, [*described, _FLAGS_UNIT])]


def _reason_rows(mask: BadPixelMask) -> NDArray[Any]:
    """Return the bad pixels: x and y from 0, and the bits of `imaging.pixels.image.Reason`."""
    y, x = np.nonzero(mask.bad)
    rows = np.empty(len(x), [("x", np.int16), ("y", np.int16), ("reason", np.uint8)])
    rows["x"], rows["y"], rows["reason"] = x, y, mask.reasons[y, x]
    return rows

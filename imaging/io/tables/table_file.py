"""A table of another origin, with the units, UCDs, frame and epoch that its file declares."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.parsers.expat import ExpatError

import numpy as np
from astropy.io import fits
from astropy.io.votable import parse
from astropy.table import Table
from numpy.typing import NDArray

from imaging.errors import CatalogueError

#: Suffixes of the files of a folder that are read.
SUFFIXES: Final = (
    ".fits",
    ".fit",
    ".fits.gz",
    ".vot",
    ".vot.gz",
    ".xml",
    ".votable",
    ".ecsv",
    ".csv",
    ".csv.gz",
)
#: Maximum size of a table, unpacked, bytes.
LARGEST: Final = 2 * 1024**3
_FORMATS: Final = "FITS, VOTable, ECSV or CSV"
_GZIP: Final = b"\x1f\x8b"
#: What astropy raises for files that are damaged or of another kind.
_UNREADABLE: Final = (
    OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, MemoryError,
    RecursionError, SyntaxError, NotImplementedError, Warning, fits.VerifyError, ExpatError, struct.error,
)  # fmt: skip
#: UCDs of the first version that some services still give.
_OLD_UCDS: Final = {"POS_EQ_RA_MAIN": "pos.eq.ra;meta.main", "POS_EQ_DEC_MAIN": "pos.eq.dec;meta.main"}
#: Texts of CSV that stand for a missing value.
_MISSING: Final = ("", "null", "NULL", "--", "nan", "NaN")


class _IncompleteAnswerError(Exception):
    """An answer of a service that states itself that it is incomplete."""


class NoRowsError(CatalogueError):
    """A table that is complete and has no rows: no star of the catalogue is in the region."""


@dataclass(frozen=True)
class TableFile:
    """A table as its file has it.

    Attributes
    ----------
    name
        Name of the file, for messages.
    sha256
        Of its bytes as they are on disk.
    table
        Its columns; a unit is in the column's ``unit``.
    ucds
        The UCD of each column that has one.
    frame
        Reference frame that the file declares: ``icrs``, ``fk5``, ``fk4`` or ``galactic``; empty if it declares none.
    equinox
        Equinox of that frame, years; None if it is not declared.
    epoch
        Epoch of the positions that the file declares, Julian years; None if it declares none.
    title
        Name of the table, as services give it; may be empty.
    """

    name: str
    sha256: str
    table: Table
    ucds: Mapping[str, str] = field(default_factory=dict)
    frame: str = ""
    equinox: float | None = None
    epoch: float | None = None
    title: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that hold one number or text in each row."""
        return tuple(
            name for name in self.table.colnames
            if isinstance(getattr(self.table[name], "dtype", None), np.dtype) and self.table[name].ndim == 1
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.table)

    def unit(self, column: str) -> str:
        """Return the unit of a column, as FITS spells it; empty without one."""
        unit = self.table[column].unit
        return "" if unit is None else str(unit)

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Return a column as numbers, shape (rows,); NaN where a value is missing or is not a number."""
        values = self.table[column]
        data, mask = np.ma.getdata(np.asarray(values)), np.ma.getmaskarray(values)
        if data.dtype.kind in "biuf":
            numbers = data.astype(np.float64)
        else:
            numbers = np.array([_number(text) for text in _texts(data)], np.float64)
        return np.where(mask, np.nan, numbers)

    def texts(self, column: str) -> list[str]:
        """Return a column as texts without blanks around them; empty where a value is missing."""
        values = self.table[column]
        mask = np.ma.getmaskarray(values)
        texts = _texts(np.ma.getdata(np.asarray(values)))
        return ["" if hidden else text for text, hidden in zip(texts, mask, strict=True)]


def read_table_file(path: Path) -> TableFile:
    """Read a table from a file; its content, not its name, determines the format.

    Parameters
    ----------
    path
        FITS (first table), VOTable (first table), ECSV or CSV with a line of names; may be compressed by gzip.

    Raises
    ------
    CatalogueError
        If it cannot be read, is too large, is in another format or has no rows.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise CatalogueError(str(path), "is not a file", remedy="Name a file, or a folder of tiles.")
        content = path.read_bytes() if size <= LARGEST else b""
    except OSError as error:
        raise CatalogueError(
            str(path), f"cannot be read: {error.strerror or error}",
            remedy="Correct the name, or let this account read the file.",
        ) from error  # fmt: skip
    if size > LARGEST:
        raise _too_large(str(path), size)
    return table_of(content, str(path))


def table_of(content: bytes, name: str) -> TableFile:
    """Return the table in the bytes of a file, as `read_table_file`; ``name`` is for messages."""
    sha256 = hashlib.sha256(content).hexdigest()
    plain = _unpacked(content, name) if content.startswith(_GZIP) else content
    start = plain[:512].lstrip().lower()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units and versions that astropy finds unusual
            if start.startswith(b"simple"):
                found = _fits(plain)
            elif start.startswith(b"<?xml") or b"<votable" in start:
                found = _votable(plain)
            elif start.startswith(b"# %ecsv"):
                found = _ecsv(plain)
            else:
                found = _csv(plain)
    except _IncompleteAnswerError as error:
        raise CatalogueError(
            name, str(error), remedy="Ask the service again, for fewer stars, or use another file."
        ) from error
    except _UNREADABLE as error:
        why = str(error).strip().splitlines()
        raise CatalogueError(
            name, f"is not a table of the format {_FORMATS}: {why[0] if why else type(error).__name__}",
            remedy="Check that the file is complete, and write it in one of these formats.",
        ) from error  # fmt: skip
    if not len(found["table"]):
        raise NoRowsError(
            name,
            "has no rows",
            remedy="Use a catalogue that covers the field, in a complete file.",
        )
    return TableFile(name, sha256, **found)


def _fits(content: bytes) -> dict[str, Any]:
    with fits.open(io.BytesIO(content)) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            raise ValueError("it has no table, only images")
        header = tables[0].header
        table = Table.read(tables[0])
        primary = hdus[0].header
    keys = {key: header.get(key, primary.get(key)) for key in ("RADESYS", "RADECSYS", "EQUINOX", "COOSYS")}
    columns = range(1, int(header.get("TFIELDS", 0)) + 1)
    ucds = {str(header[f"TTYPE{i}"]): str(header[f"TUCD{i}"]) for i in columns if f"TUCD{i}" in header}
    equinox = _number(str(keys["EQUINOX"] or ""))
    frame = _frame(str(keys["RADESYS"] or keys["RADECSYS"] or keys["COOSYS"] or ""), equinox)
    # The keyword EPOCH is not read: in FITS it is an old name of the equinox.
    return {
        "table": table, "ucds": ucds, "frame": frame, "equinox": _finite(equinox),
        "title": str(header.get("EXTNAME", "")),
    }  # fmt: skip


def _votable(content: bytes) -> dict[str, Any]:
    tree = parse(io.BytesIO(content), verify="ignore")
    for info in _infos(tree):
        failed = info.name == "QUERY_STATUS" and info.value == "ERROR"
        if failed or str(info.name).strip("*").lower() == "error":
            why = info.content if failed else info.value
            raise _IncompleteAnswerError(f"states an error: {str(why or 'without a reason').strip()}")
        if info.name == "QUERY_STATUS" and info.value == "OVERFLOW":
            raise _IncompleteAnswerError("was cut off by the service, because it has too many rows")
    if not any(True for _ in tree.iter_tables()):
        return {"table": Table()}
    first = tree.get_first_table()
    table = first.to_table(use_names_over_ids=True)
    ucds = {one.name: _OLD_UCDS.get(str(one.ucd).upper(), str(one.ucd)) for one in first.fields if one.ucd}
    systems = {system.ID: system for system in tree.iter_coosys()}
    main = next((one for one in first.fields if ucds.get(one.name, "").lower().startswith("pos.eq.ra")), None)
    system = systems.get(getattr(main, "ref", None)) or (
        next(iter(systems.values())) if len(systems) == 1 else None
    )
    if system is None:
        return {"table": table, "ucds": ucds, "title": str(first.name or "")}
    equinox = _year(str(system.equinox or ""))
    return {
        "table": table, "ucds": ucds, "frame": _frame(str(system.system or ""), equinox or np.nan),
        "equinox": equinox, "epoch": _year(str(system.epoch or "")), "title": str(first.name or ""),
    }  # fmt: skip


def _infos(tree: Any) -> list[Any]:
    tables = [info for one in tree.iter_tables() for info in one.infos]
    # A cone search of the first version states its error in a parameter.
    return [
        *tree.infos,
        *tree.params,
        *(info for resource in tree.resources for info in resource.infos),
        *tables,
    ]


def _ecsv(content: bytes) -> dict[str, Any]:
    table = Table.read(content.decode().splitlines(), format="ascii.ecsv")
    meta = {str(key).lower(): value for key, value in table.meta.items()}
    ucds = {
        name: str(table[name].info.meta["ucd"])
        for name in table.colnames
        if (table[name].info.meta or {}).get("ucd")
    }
    equinox = _year(str(meta.get("equinox", "")))
    frame = str(meta.get("frame", meta.get("radesys", "")))
    return {
        "table": table, "ucds": ucds, "frame": _frame(frame, equinox or np.nan), "equinox": equinox,
        "epoch": _year(str(meta.get("epoch", ""))), "title": str(meta.get("name", "")),
    }  # fmt: skip


def _csv(content: bytes) -> dict[str, Any]:
    text = content.decode("utf-8-sig")
    if "\0" in text:
        raise ValueError("it has binary content")
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if "," not in first:
        raise ValueError("its first line is not a list of column names with commas between them")
    fill = [(missing, "0") for missing in _MISSING]
    table = Table.read(text.splitlines(), format="ascii.csv", comment="#", fill_values=fill, guess=False)
    return {"table": table}


def _unpacked(content: bytes, name: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            plain = stream.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise CatalogueError(
            name, f"cannot be unpacked: {error}", remedy="Copy the file again; it is incomplete or damaged."
        ) from error
    if len(plain) > LARGEST:
        raise _too_large(name, len(plain))
    return plain


def _too_large(name: str, size: int) -> CatalogueError:
    return CatalogueError(
        name, f"has {size / 1024**3:.1f} GB or more, the limit is {LARGEST / 1024**3:.0f} GB",
        remedy="Cut out the region of the observations, or divide the catalogue into tiles in a folder.",
    )  # fmt: skip


def _frame(text: str, equinox: float) -> str:
    """Return the name of a frame as astropy has it; empty for none that is known."""
    name = text.lower().replace("eq_", "").replace("-", "").strip()
    for start, frame in {"icrs": "icrs", "fk5": "fk5", "fk4": "fk4", "gal": "galactic"}.items():
        if name.startswith(start):
            return frame
    if not name and np.isfinite(equinox):
        return "fk4" if equinox < 1984.0 else "fk5"  # Calabretta and Greisen 2002, section 3.1
    return ""


def _year(text: str) -> float | None:
    """Return the year in a text such as ``J2000``, ``B1950.0`` or ``2016.0``; None without one."""
    found = re.fullmatch(r"\s*[JB]?\s*(\d{4}(?:\.\d*)?)\s*", text)
    return float(found[1]) if found else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _texts(data: NDArray[Any]) -> list[str]:
    return [
        (one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)).strip()
        for one in data.tolist()
    ]

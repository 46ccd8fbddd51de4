"""Files of catalogues of reference stars, in the forms in which archives and services give them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from imaging.reference_catalogue.interpret import Region

#: The region of the files: the field of the simulator.
CENTRE = (63.4917, -47.8443)


def region(epoch: float = 2013.9, radius: float = 0.1) -> Region:
    return Region(*CENTRE, radius, epoch)


def star_positions(n: int, seed: int = 1, radius: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Return right ascension and declination (deg) of stars around the centre."""
    rng = np.random.default_rng(seed)
    ra = CENTRE[0] + rng.uniform(-radius, radius, n) / np.cos(np.radians(CENTRE[1]))
    return ra, CENTRE[1] + rng.uniform(-radius, radius, n)


def twomass(n: int = 20, **changed: Any) -> Table:
    """Return rows with the columns of the archive of 2MASS; ``changed`` replaces columns."""
    ra, dec = star_positions(n)
    columns: dict[str, Any] = {
        "ra": ra, "dec": dec, "err_maj": np.full(n, 0.08), "err_min": np.full(n, 0.06),
        "j_m": np.linspace(12, 16, n), "j_msigcom": np.full(n, 0.03), "h_m": np.linspace(11.5, 15.5, n),
        "h_msigcom": np.full(n, 0.03), "k_m": np.linspace(11.3, 15.3, n), "k_msigcom": np.full(n, 0.04),
        "ph_qual": ["AAA"] * n, "cc_flg": ["000"] * n, "gal_contam": np.zeros(n, int), "mp_flg": np.zeros(n, int),
        "jdate": np.full(n, 2451545.0),
    }  # fmt: skip
    return Table(columns | changed)


def gaia(n: int = 20, **changed: Any) -> Table:
    """Return rows with the columns of the archive of Gaia DR3; ``changed`` replaces columns."""
    ra, dec = star_positions(n)
    columns: dict[str, Any] = {
        "ra": ra, "dec": dec, "ra_error": np.full(n, 0.1), "dec_error": np.full(n, 0.2), "pmra": np.full(n, 10.0),
        "pmdec": np.full(n, -20.0), "pmra_error": np.full(n, 0.1), "pmdec_error": np.full(n, 0.1),
        "ref_epoch": np.full(n, 2016.0), "ruwe": np.full(n, 1.0), "phot_g_mean_mag": np.full(n, 15.0),
    }  # fmt: skip
    return Table(columns | changed)


def plain(n: int = 20, **changed: Any) -> Table:
    """Return rows of a list of stars of no survey; ``changed`` replaces columns."""
    ra, dec = star_positions(n)
    columns: dict[str, Any] = {"ra": ra, "dec": dec, "j": np.linspace(12, 16, n), "j_err": np.full(n, 0.02)}
    return Table(columns | changed)


def written(table: Table, path: Path) -> Path:
    """Write a table in the format of the suffix and return the path."""
    formats = {"fits": "fits", "vot": "votable", "ecsv": "ascii.ecsv", "csv": "ascii.csv"}
    # astropy's writer of VOTables with rows as text (8.0.2) writes beyond its buffer; the binary form does not use it.
    more = {"tabledata_format": "binary2"} if path.suffix == ".vot" else {}
    table.write(path, format=formats[path.suffix[1:]], overwrite=True, **more)
    return path


def votable(
    columns: Mapping[str, tuple[str, str, Sequence[Any]]], *, system: str = "ICRS", equinox: str = "", epoch: str = "",
    infos: str = "", name: str = "stars",
) -> bytes:  # fmt: skip
    """Return a VOTable with a UCD and a unit for each column of numbers, and a declared frame."""
    fields = "".join(
        f'<FIELD name="{column}" ucd="{ucd}" datatype="double"'
        + (f' unit="{unit}"' if unit else "")
        + ' ref="frame"/>'
        for column, (ucd, unit, _) in columns.items()
    )
    rows = zip(*(values for _, _, values in columns.values()), strict=True)
    cells = "".join(
        "<TR>" + "".join(f"<TD>{value!r}</TD>" for value in map(float, row)) + "</TR>" for row in rows
    )
    frame = f'<COOSYS ID="frame" system="{system}"' + (f' equinox="{equinox}"' if equinox else "")
    frame += (f' epoch="{epoch}"' if epoch else "") + "/>"
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f'<RESOURCE type="results">{infos}{frame}<TABLE name="{name}">{fields}<DATA><TABLEDATA>{cells}</TABLEDATA>'
        "</DATA></TABLE></RESOURCE></VOTABLE>"
    )
    return text.encode()


def csv_of(table: Table) -> bytes:
    """Return a table as CSV."""
    stream = io.StringIO()
    table.write(stream, format="ascii.csv")
    return stream.getvalue().encode()

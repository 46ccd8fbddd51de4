"""Products of other software, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

PRIMARY = {
    "INSTRUME": "F2", "OBSTYPE": "DARK", "OBSCLASS": "dayCal", "OBJECT": "Dark", "EXPTIME": 120.0,
    "COADDS": 1, "LNRS": 8, "NREADS": 8, "FILTER1": "DK_G0807", "FILTER2": "Open", "LYOT": "f/16_G5830",
    "MOSPOS": "Open", "GRISM": "Open", "DETID": "109", "DATE-OBS": "2013-11-20", "UTSTART": "04:48:00.0",
}  # fmt: skip


LAMP = {"OBSTYPE": "FLAT", "EXPTIME": 20.0, "LNRS": 1, "NREADS": 1, "FILTER1": "Y_G0811"}


SCIENCE = {"OBSTYPE": "OBJECT", "OBSCLASS": "science", "FILTER1": "Y_G0811"}


KEY = "ab" * 32


# What a product records about how it was made


def with_table(path: Path, name: str, rows: list[tuple[str, ...]], columns: list[str]) -> Path:
    with fits.open(path) as hdus:
        table = np.array(rows, [(column, "U128") for column in columns])
        hdus.append(fits.BinTableHDU(table, name=name))
        hdus.writeto(path.with_name(f"with_{path.name}"))
    return path.with_name(f"with_{path.name}")


LINEAGE = ["file", "sha256", "role", "step"]


# A table of another product


def labelled(path: Path, rows: list[tuple[str, ...]], **cards: str) -> Path:
    """Return a product with a LINEAGE table whose header has these cards."""
    labelled = with_table(path, "LINEAGE", rows, LINEAGE)
    with fits.open(labelled, mode="update") as hdus:
        hdus["LINEAGE"].header.update(cards)
    return labelled

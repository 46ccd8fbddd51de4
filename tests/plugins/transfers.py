"""Two stores, and transfers between them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from astropy.io import fits

from calib_store.exchange.transfer import Imported, export, import_products
from calib_store.model.records import Product
from calib_store.store import Store

HEADER = {
    "INSTRUME": "F2", "OBSTYPE": "OBJECT", "OBSCLASS": "science", "OBJECT": "FIELD", "EXPTIME": 120.0,
    "COADDS": 1, "LNRS": 8, "NREADS": 8, "FILTER1": "Y_G0811", "FILTER2": "Open", "LYOT": "f/16_G5830",
    "MOSPOS": "Open", "GRISM": "Open", "DETID": "109", "DATE-OBS": "2013-11-21", "UTSTART": "03:00:00.0",
}  # fmt: skip


#: Kinds of the raw frames of a product.
OF = {"dark": "dark", "flat": "flat", "bpm": "flat", "image": "object"}


WHO = {"author": "Ana", "reason": "good"}


def product_bytes(kind: str, *, level: float = 1.0, number: int = 0, **cards) -> bytes:
    """Return the bytes of a product's file that agrees with the facts of the fixtures."""
    marks = {"dark": "PROCDARK", "flat": "PROCFLAT", "bpm": "BPMASK", "image": "PROCSCI"}
    primary = fits.PrimaryHDU()
    primary.header.update(HEADER | {marks[kind]: "2026-01-01T00:00:00", "SERIAL": number} | cards)
    planes = [fits.ImageHDU(np.zeros((8, 8), np.uint8), name="SCI")]
    if kind != "bpm":
        values = {"SCI": np.full((8, 8), level, np.float32), "VAR": np.ones((8, 8), np.float32)}
        values["DQ"] = np.zeros((8, 8), np.uint16)
        planes = [fits.ImageHDU(plane, name=name) for name, plane in values.items()]
    file = io.BytesIO()
    fits.HDUList([primary, *planes]).writeto(file)
    return file.getvalue()


def take(other: Store, source: Path) -> Imported:
    """Import from a trusted store and return the outcome."""
    return import_products(other, source, author="me", trust=True)


# Imported files are checked like added ones


def with_manifest(folder: Path, change) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest["products"][-1])
    path.write_text(json.dumps(manifest))


# A store that is not trusted


def careful(other: Store, source: Path) -> Imported:
    return import_products(other, source, author="me")


def exported(store: Store, wanted: list[Product], target: Path) -> Path:
    export(store, wanted, target)
    return target


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size, found.type = size, kind
    return found

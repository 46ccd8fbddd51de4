"""Frames of cameras that do not exist: the arrays of a simulated night, stored with headers unlike Gemini's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.coordinates import Angle
from astropy.io import fits
from numpy.typing import NDArray

from calib_store.rules.rules_toml import shipped_rules
from imaging.instruments import catalogue
from imaging.instruments.own_tables import OWN_TABLES

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
OWL = EXAMPLES / "owl.toml"
#: Level of the first camera's frames that is no light: its integers have no sign.
PEDESTAL = 300
#: Columns of the overscan of each of the second camera's arrays.
OVERSCAN = 16
_KINDS = {"DARK": "Dark Frame", "FLAT": "Flat Field", "OBJECT": "Light Frame"}

Store = Callable[[Path, dict[str, Any], NDArray[np.float64], int], None]


@contextmanager
def tables(*paths: Path) -> Iterator[None]:
    """Have tables of cameras among the instruments."""
    before = OWN_TABLES.paths
    catalogue.own_tables_from(lambda: paths)
    shipped_rules.cache_clear()
    yield
    catalogue.own_tables_from(before)
    shipped_rules.cache_clear()


def night_of(raws: Sequence[Path], folder: Path, store: Store, camera: str) -> Path:
    """Store the frames of a simulated night as another camera does: numbered, with its own headers."""
    folder.mkdir()
    for number, raw in enumerate(sorted(raws), start=1):
        with fits.open(raw) as hdus:
            theirs, adu = hdus[0].header, hdus[1].data[0] / hdus[0].header["LNRS"]
        cards = {
            "CAMERA": camera, "IMAGETYP": _KINDS[theirs["OBSTYPE"]], "OBJECT": theirs["OBJECT"],
            "EXPOSURE": theirs["EXPTIME"], "NSAMP": theirs["LNRS"], "FILTER": theirs["FILTER"].split("_")[0],
            "DATE-OBS": f"{theirs['DATE-OBS']}T{theirs['UTSTART']}", "AIRMASS": theirs["AIRMASS"],
            "OBJCTRA": Angle(theirs["RA"], units.deg).to_string(units.hourangle, sep=" ", precision=3, pad=True),
            "OBJCTDEC": Angle(theirs["DEC"], units.deg).to_string(sep=" ", precision=2, alwayssign=True, pad=True),
            "OFF_EAST": theirs["POFFSET"], "OFF_NORT": theirs["QOFFSET"],
        }  # fmt: skip
        if theirs["OBSTYPE"] == "DARK":
            cards["FILTER"] = "blank"
        if theirs["OBSTYPE"] == "FLAT":
            cards["LAMP"] = "on" if theirs["GCALSHUT"] == "OPEN" else "off"
        store(folder / f"{camera.lower()}_{number:04d}.fits", cards, adu, number)
    return folder


def one_hdu(path: Path, cards: dict[str, Any], adu: NDArray[np.float64], number: int) -> None:
    """Store a frame as unsigned integers of 16 bits in the only HDU."""
    pixels = np.clip(np.rint(adu) + PEDESTAL, 0, 65535).astype(np.uint16)
    fits.PrimaryHDU(pixels, fits.Header(list(cards.items()))).writeto(path)


def level(number: int, rows: int) -> NDArray[np.float64]:
    """Return the level of each row of a frame of the second camera: it differs from frame to frame, and drifts."""
    return 2000.0 + 40.0 * np.sin(1.7 * number) + 30.0 * np.arange(rows) / rows


def two_arrays(path: Path, cards: dict[str, Any], adu: NDArray[np.float64], number: int) -> None:
    """Store the two halves of a frame in two extensions, each with an overscan on its left.

    Their order alternates from file to file.
    """
    rng = np.random.default_rng(number)
    rows, columns = adu.shape
    noise = {1: 11.7, 8: 5.0}[cards["NSAMP"]] / 4.44
    hdus = []
    for name, half in (("WEST", slice(0, columns // 2)), ("EAST", slice(columns // 2, columns))):
        dark = rng.normal(0, noise, (rows, OVERSCAN))
        own = (
            np.hstack([dark, adu[:, half]]) + level(number, rows)[:, None] + (7.0 if name == "EAST" else 0.0)
        )
        pixels = np.clip(np.rint(own), 0, 65535).astype(np.uint16)
        header = fits.Header([("CHIPID", name), ("BIASSEC", "[1:16,1:1]"), ("TRIMSEC", "as in the table")])
        hdus.append(fits.ImageHDU(pixels, header))
    ordered = hdus[:: -1 if number % 2 else 1]
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(list(cards.items()))), *ordered]).writeto(path)


def twin_table(size: int, folder: Path, degree: int | None = None) -> Path:
    """Write the table of the second camera for frames of a size, and return its path."""
    text = OWL.read_text().replace('name = "Owl"', 'name = "Twin"').replace("owl-1", "twin-1")
    text = text.replace("shape = [1024, 1024]", f"shape = [{size}, {size}]")
    half = size // 2
    arrays = [] if degree is None else [f"[detector.overscan]\ndegree = {degree}"]
    arrays += [
        f'[[detector.arrays]]\nwhen = {{ CHIPID = ["{name}"] }}\nsize = [{size}, {half + OVERSCAN}]\n'
        f'trim = "[{OVERSCAN + 1}:{half + OVERSCAN},1:{size}]"\noverscan = "[1:{OVERSCAN},1:{size}]"\n'
        f"at = [{first}, 1]"
        for name, first in (("WEST", 1), ("EAST", half + 1))
    ]
    path = folder / "twin.toml"
    path.write_text(text + "\n" + "\n\n".join(arrays) + "\n")
    return path

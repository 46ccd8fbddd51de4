"""Headers of an archive's files as texts, the archive's own record of each, and files made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits

from benchmarks.faults.edit import RawFits, RawHdu, write

_HDU: Final = "\n== HDU "
_CARD: Final = 80
_BLOCK: Final = 2880
_TYPES: Final = {8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}
#: Noise of the invented pixels, ADU.
_NOISE: Final = 30.0


@dataclass(frozen=True, eq=False)
class ArchiveFile:
    """One file of the archive.

    Attributes
    ----------
    text
        The file with its headers: a line ``== HDU n`` before the cards of each HDU.
    record
        The archive's record of it; None for an unknown value.
    """

    text: Path
    record: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name without a suffix."""
        return self.text.stem

    @property
    def folder(self) -> str:
        """Name of the folder with the files of one instrument."""
        return self.text.parent.name

    def headers(self) -> list[fits.Header]:
        """Return the headers of its HDUs."""
        return [fits.Header.fromstring(b"".join(cards).decode("latin-1")) for cards in self._cards()]

    def write(self, folder: Path, level: float = 1500.0) -> Path:
        """Write a raw file with these headers, card by card, and invented pixels.

        Parameters
        ----------
        folder
            Folder for the file.
        level
            Mean of the pixels, ADU.
        """
        rng = np.random.default_rng(1)
        hdus = []
        for cards, header in zip(self._cards(), self.headers(), strict=True):
            sizes = [header[f"NAXIS{axis + 1}"] for axis in range(header["NAXIS"])]
            number = math.prod(sizes) if sizes else 0
            data = b""
            if number and str(header.get("XTENSION", "IMAGE")).strip() == "IMAGE":
                data = rng.normal(level, _NOISE, number).astype(_TYPES[header["BITPIX"]]).tobytes()
            elif number:
                data = bytes(number + header.get("PCOUNT", 0))
            hdus.append(RawHdu(cards, data + bytes(-len(data) % _BLOCK)))
        return write(folder / f"{self.name}.fits", RawFits(hdus).content())

    def _cards(self) -> list[list[bytes]]:
        blocks = ("\n" + self.text.read_text("latin-1")).split(_HDU)[1:]
        return [
            [line.encode("latin-1").ljust(_CARD) for line in block.splitlines()[1:] if line.strip()]
            for block in blocks
        ]


def archive_files(folder: Path) -> list[ArchiveFile]:
    """Return the files of a folder and of the folders in it that have a record, by name.

    Raises
    ------
    FileNotFoundError
        If no file has one.
    """
    found = [
        ArchiveFile(text, json.loads(text.with_suffix(".json").read_text()))
        for text in sorted(folder.rglob("*.txt"))
        if text.with_suffix(".json").exists()
    ]
    if not found:
        raise FileNotFoundError(
            f"{folder} has no header (.txt) with the archive's record (.json) next to it."
        )
    return found

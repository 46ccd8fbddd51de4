"""Raw files changed byte by byte: cards that no FITS library would write, and pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

_CARD: Final = 80
_BLOCK: Final = 2880
END: Final = b"END".ljust(_CARD)


@dataclass
class RawHdu:
    """An HDU as bytes: its cards of 80 bytes without END, its data with their padding."""

    cards: list[bytes]
    data: bytes


@dataclass
class RawFits:
    """A FITS file as bytes, for changes that a library refuses.

    Attributes
    ----------
    hdus
        Primary HDU and image.
    behind
        Bytes behind the last HDU.
    padding
        The byte that fills a header's last block.
    """

    hdus: list[RawHdu]
    behind: bytes = b""
    padding: bytes = field(default=b" ")

    def at(self, hdu: int, keyword: str) -> int:
        """Return the index of a card.

        Raises
        ------
        KeyError
            If the header does not have it.
        """
        start = keyword.ljust(8).encode()
        for number, card in enumerate(self.hdus[hdu].cards):
            if card.startswith(start):
                return number
        raise KeyError(keyword)

    def set(self, hdu: int, keyword: str, value: str | bytes) -> None:
        """Write ``KEYWORD = value`` with the value as it is, in place of the card or at the end."""
        raw = value if isinstance(value, bytes) else value.encode("latin-1")
        card = (keyword.ljust(8).encode() + b"= " + raw).ljust(_CARD)[:_CARD]
        try:
            self.hdus[hdu].cards[self.at(hdu, keyword)] = card
        except KeyError:
            self.hdus[hdu].cards.append(card)

    def add(self, hdu: int, card: bytes) -> None:
        """Append a card."""
        self.hdus[hdu].cards.append(card.ljust(_CARD)[:_CARD])

    def drop(self, hdu: int, *keywords: str) -> None:
        """Remove cards that exist."""
        for keyword in keywords:
            start = keyword.ljust(8).encode()
            self.hdus[hdu].cards = [card for card in self.hdus[hdu].cards if not card.startswith(start)]

    def content(self) -> bytes:
        """Return the bytes of the file."""
        parts = []
        for hdu in self.hdus:
            header = b"".join(hdu.cards) + END
            parts += [header, self.padding * (-len(header) % _BLOCK), hdu.data]
        return b"".join(parts) + self.behind


def load(path: Path) -> RawFits:
    """Read a file as bytes."""
    content = path.read_bytes()
    hdus = []
    with fits.open(path, memmap=False) as opened:
        for hdu in opened:
            place = hdu.fileinfo()
            header = content[place["hdrLoc"] : place["datLoc"]]
            cards = [header[at : at + _CARD] for at in range(0, len(header), _CARD)]
            data = content[place["datLoc"] : place["datLoc"] + place["datSpan"]]
            hdus.append(RawHdu(cards[: cards.index(END)], data))
    return RawFits(hdus)


def write(path: Path, content: bytes) -> Path:
    """Replace a file, which may be a hard link to the night's own."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


def cards(folder: Path, name: str, change: Callable[[RawFits], None]) -> None:
    """Change the cards of one file of a folder."""
    raw = load(folder / name)
    change(raw)
    write(folder / name, raw.content())


def pixels(folder: Path, name: str, change: Callable[[NDArray[Any]], Any]) -> None:
    """Change the pixels of one file: ``change`` gets a copy and changes it, or returns another array."""
    path = folder / name
    with fits.open(path, memmap=False) as opened:
        primary, header = opened[0].copy(), opened[1].header.copy()
        given = np.array(opened[1].data)
    changed = change(given)
    path.unlink()
    image = fits.ImageHDU(given if changed is None else changed, header)
    fits.HDUList([primary, image]).writeto(path)


def values(folder: Path, names: Iterable[str], **given: object) -> None:
    """Give cards of the primary header of files other values (DATE_OBS is DATE-OBS; None drops a card)."""
    for name in names:
        with fits.open(folder / name, memmap=False) as opened:
            hdus = fits.HDUList([hdu.copy() for hdu in opened])
        for keyword, value in given.items():
            card = keyword.replace("_", "-")
            if value is None:
                hdus[0].header.remove(card, ignore_missing=True)
            else:
                hdus[0].header[card] = value
        (folder / name).unlink()
        hdus.writeto(folder / name)

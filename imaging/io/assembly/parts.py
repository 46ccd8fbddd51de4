"""The images of a file that make up a frame, and the header of that frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from imaging.errors import FrameError
from imaging.frames.facts import processing
from imaging.header import Card, Header
from imaging.instruments import catalogue
from imaging.instruments.instrument import Instrument
from imaging.instruments.regions import Array
from imaging.io.data_cards import image_shape

#: Cards that describe the image as stored.
_OF_THE_STORED: Final = re.compile(
    r"BSCALE|BZERO|BLANK|EXTNAME|EXTVER|EXTLEVEL|CHECKSUM|DATASUM|LT[VM]\d(_\d)?"
    r"|(BIAS|TRIM|DATA|CCD|AMP|DET|ARRAY)SEC\w?"
)


@dataclass(frozen=True)
class Parts:
    """The images of a frame.

    Attributes
    ----------
    instrument
        The table.
    images
        For each array of the table, the number of its image among those of the file.
    header
        Header of the frame: that of the first array, for the pixels as they are assembled.
    """

    instrument: Instrument
    images: tuple[int, ...]
    header: Header

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays, in the order of the table."""
        return self.instrument.detector.arrays


def n_arrays(primary: Header) -> int:
    """Return the number of arrays of the instrument that a primary header names; 0 without declared regions."""
    instrument = catalogue.by_header(primary)
    return 0 if instrument is None or processing(primary)[0] else len(instrument.detector.arrays)


def parts_of(name: str, primary: Header, images: Sequence[Header]) -> Parts | None:
    """Return the images that make up a frame.

    Parameters
    ----------
    name
        File name, for errors.
    primary
        Primary header.
    images
        Header of each image of the file, in any order.

    Returns
    -------
    Parts or None
        None for an instrument without declared regions, and for a product.

    Raises
    ------
    FrameError
        If the image of an array is missing, is there twice, or has another size than the table declares.
    """
    instrument = catalogue.by_header(primary)
    if instrument is None or not instrument.detector.arrays or not images or processing(primary)[0]:
        return None
    chosen = []
    for number, array in enumerate(instrument.detector.arrays, 1):
        key = f"detector.arrays[{number}]"
        fitting = [k for k, image in enumerate(images) if array.matches(image, primary)]
        count = len(fitting)
        if count != 1:
            keyword = next(iter(array.when), "XTENSION")
            values = [str(image.get(keyword, primary.get(keyword, "missing"))) for image in images]
            raise FrameError(
                name, f"{count} images fit an array of the detector ({key}.when), but one has to",
                keyword=keyword, found=", ".join(values), expected=" or ".join(array.when.get(keyword, ("one image",))),
                remedy=f"Fetch the file again, or correct {key} in the table of {instrument.name}.",
            )  # fmt: skip
        shape = image_shape(images[fitting[0]])
        if shape != array.size:
            raise FrameError(
                name, f"the image of an array has the shape {_times(shape)}, but {key}.size is {_times(array.size)}",
                remedy=f"Leave the file out, or correct {key} in the table of {instrument.name}.",
            )  # fmt: skip
        chosen.append(fitting[0])
    if len(set(chosen)) < len(chosen):
        raise FrameError(
            name, "one image fits two arrays of the detector (detector.arrays)",
            remedy=f"Correct detector.arrays in the table of {instrument.name}: each `when` has to fit one image.",
        )  # fmt: skip
    reference = images[chosen[0]]
    header = _assembled(reference, instrument.detector.arrays[0], instrument.detector.shape)
    return Parts(instrument, tuple(chosen), header)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _assembled(reference: Header, array: Array, shape: tuple[int, int]) -> Header:
    """Return the header of the first array for the assembled pixels: its size, and its world coordinates moved."""
    new: dict[str, Any] = {"BITPIX": -32, "NAXIS": 2, "NAXIS1": shape[1], "NAXIS2": shape[0]}
    moved = {"CRPIX1": array.at[0] - array.kept[0], "CRPIX2": array.at[1] - array.kept[2]}
    cards = []
    for card in reference.cards:
        if _OF_THE_STORED.fullmatch(card.keyword) or re.fullmatch(r"NAXIS[3-9]", card.keyword):
            continue
        if card.keyword in new:
            cards.append(Card(card.keyword, new[card.keyword], card.comment))
        elif by := moved.get(card.keyword):
            at = card.value
            number = isinstance(at, (int, float)) and not isinstance(at, bool)
            cards.append(Card(card.keyword, float(at) + by, card.comment) if number else card)  # type: ignore[arg-type]
        else:
            cards.append(card)
    return Header(cards, unreadable=reference.unreadable, notes=reference.notes)

"""What a raw frame's headers are after they were read: valid world coordinates, a sane BLANK, notes in its facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from raw_forms import FORMS, WriteRaw, compressed

from imaging.io.data_cards import blank_of
from imaging.io.raw_file import open_raw, read_headers
from imaging.pixels.wcs import celestial_cards, wcs_problem

SHAPE = (40, 48)


def changed(path: Path, extension: int, **cards: Any) -> Path:
    """Change cards of a frame."""
    with fits.open(path, mode="update") as hdus:
        hdus[extension].header.update({key.replace("_OF_", "-"): value for key, value in cards.items()})
    return path


@pytest.mark.parametrize("suffix", FORMS)
def test_both_ways_to_open_a_frame_repair_its_world_coordinates(write_raw: WriteRaw, suffix: str) -> None:
    good = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 63.0,
        "CRVAL2": -47.0,
        "CRPIX1": 1.0,
        "CRPIX2": 1.0,
    }
    path = changed(write_raw(), 0, **good, CD1_1=-5e-5, CD2_2=5e-5)
    path = compressed(changed(path, 1, CD1_2=-3.25e-55), suffix)
    primary, image = read_headers(path)
    assert image is not None
    assert celestial_cards(image) == celestial_cards(primary)
    with open_raw(path, name="S20131121S0075.fits", shape=SHAPE) as raw:
        assert dict(raw.extension).items() >= {"CRVAL1": 63.0, "CD1_1": -5e-5}.items()
        assert wcs_problem(raw.extension) == ""
        assert [note.split(" (")[0] for note in raw.facts.notes] == [
            "the world coordinates of the image are invalid"
        ]


@pytest.mark.parametrize(
    ("blank", "pixels", "expected"),
    [
        (-32768, np.int16, -32768), (-99999, np.int32, -99999), (-99999, np.int16, None), (0.5, np.int16, None),
        (7.0, np.int16, 7), ("seven", np.int16, None), (-1, np.float32, None),
    ],
)  # fmt: skip
def test_blank_is_a_value_of_the_pixels_or_ignored_with_a_note(
    write_raw: WriteRaw, blank: Any, pixels: type[np.generic], expected: int | None
) -> None:
    data = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(pixels)
    path = write_raw(data=data)
    content = path.read_bytes()
    at = content.index(b"GCOUNT", content.index(b"XTENSION"))
    value = f"'{blank}'" if isinstance(blank, str) else repr(blank)
    path.write_bytes(content[:at] + f"BLANK   = {value:>20}".ljust(80).encode() + content[at + 80 :])
    with open_raw(path, shape=SHAPE) as raw:
        assert raw.blank == blank_of(raw.extension) == expected
        assert any("BLANK" in note for note in raw.facts.notes) == (expected is None)

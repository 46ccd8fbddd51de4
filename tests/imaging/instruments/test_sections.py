"""The detector section of an image: as stated if it fits the pixels, otherwise from their number."""

from __future__ import annotations

import pytest

from imaging.frames.facts import facts_from_headers
from imaging.instruments.sections import bounds, contains, section_of_pixels

FULL = "[1:2048,1:2048]"


@pytest.mark.parametrize(
    ("stated", "binning", "image", "expected"),
    [
        (FULL, "1x1", {"NAXIS1": 2048, "NAXIS2": 2048}, FULL),
        (FULL, "1x1", {}, FULL),
        ("[513:1536,1:2048]", "1x1", {"NAXIS1": 1024, "NAXIS2": 2048}, "[513:1536,1:2048]"),
        # A cut-out with the card of the original.
        (FULL, "1x1", {"NAXIS1": 512, "NAXIS2": 256}, "[1:512,1:256]"),
        ("[513:1536,1:2048]", "1x1", {"NAXIS1": 512, "NAXIS2": 2048}, "[513:1024,1:2048]"),
        # IRAF's cards record where it was cut out.
        (FULL, "1x1", {"NAXIS1": 512, "NAXIS2": 512, "LTV1": -768.0, "LTV2": -100}, "[769:1280,101:612]"),
        (FULL, "1x1", {"NAXIS1": 512, "NAXIS2": 512, "LTV1": "a", "LTV2": True}, "[1:512,1:512]"),
        # Sections count unbinned pixels.
        (FULL, "2x2", {"NAXIS1": 1024, "NAXIS2": 1024}, FULL),
        (FULL, "2x2", {"NAXIS1": 256, "NAXIS2": 512, "LTV1": -10, "LTV2": 0}, "[21:532,1:1024]"),
        # A compressed image has the size of its table in NAXISn.
        (FULL, "1x1", {"NAXIS1": 8, "NAXIS2": 2048, "ZNAXIS1": 2048, "ZNAXIS2": 2048}, FULL),
        ("the lower half", "1x1", {"NAXIS1": 512, "NAXIS2": 512}, "the lower half"),
        (FULL, "1x1", {"NAXIS1": 0, "NAXIS2": 512}, FULL),
    ],
)
def test_section_of_pixels(stated: str, binning: str, image: dict[str, object], expected: str) -> None:
    assert section_of_pixels(stated, binning, image) == expected


def test_bounds_and_parts() -> None:
    assert bounds(" [ 3:10, 1:5 ]") == (3, 10, 1, 5)
    assert bounds("[10:3,1:5]") is None
    assert contains(FULL, "[769:1280,1:512]")
    assert not contains("[769:1280,1:512]", FULL)
    assert not contains("[1:10,1:10]", "[5:14,1:10]")
    assert contains("left", "left")
    assert not contains("left", FULL)


def test_a_stack_keeps_the_section_of_its_frames(science: dict[str, object]) -> None:
    """Dithers make it larger than the detector."""
    image = {"NAXIS1": 2273, "NAXIS2": 2274, "DETSEC": FULL}
    assert facts_from_headers(science | {"PROCSCI": "t"}, image, name="a_image.fits").section == FULL
    image = {"NAXIS1": 512, "NAXIS2": 512, "DETSEC": FULL}
    assert facts_from_headers(science, image, name="a.fits").section == "[1:512,1:512]"

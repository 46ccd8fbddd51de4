"""A WCS is valid, replaced by that of the primary header, or missing."""

from __future__ import annotations

from typing import Any

import pytest
from astropy.wcs import WCS

from imaging.header import Header
from imaging.io.cards import read_cards
from imaging.pixels.wcs import celestial_cards, celestial_wcs, wcs_problem, with_valid_wcs

GOOD: dict[str, Any] = {
    "CTYPE1": "RA---TAN", "CRPIX1": 545.18, "CRVAL1": 136.3759, "CTYPE2": "DEC--TAN", "CRPIX2": 489.05,
    "CRVAL2": 34.1303, "CD1_1": -3.2524e-5, "CD1_2": 1.287e-7, "CD2_1": -9.0e-9, "CD2_2": 3.2335e-5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("CD1_1", -3.2524270027565e-55),  # of a real file
        ("CD1_1", 0.0), ("CRVAL2", 134.0), ("CRVAL1", "north"), ("CRPIX1", "half"), ("CTYPE2", ""), ("CD2_2", "x"),
        ("CUNIT1", "furlong"), ("CRVAL1", None), ("CD1_1", 1e30),
    ],
)  # fmt: skip
def test_an_invalid_wcs_is_replaced_by_that_of_the_primary_header(keyword: str, value: object) -> None:
    image, primary = Header(GOOD | {keyword: value, "EXTNAME": "SCI"}), Header(GOOD | {"OBJECT": "star"})
    found = with_valid_wcs(image, primary)
    assert celestial_cards(found) == celestial_cards(primary)
    assert (found["EXTNAME"], "OBJECT" in found) == ("SCI", False)
    (note,) = found.notes
    assert "world coordinates of the image are invalid" in note
    assert note.endswith("those of the primary header are used")
    assert keyword in note or "CDi_j" in note or "arcsec" in note


@pytest.mark.parametrize(
    "card", ["CRVAL1  = nan", "CRVAL1  = north-east / x", "CD1_2   = inf", "CRPIX2  = *****"]
)
def test_a_card_that_cannot_be_read_makes_a_wcs_invalid(card: str) -> None:
    lines = [f"{name:8}= {value!r}" for name, value in GOOD.items() if name != card[:8].strip()]
    image = read_cards(b"".join(line.encode().ljust(80) for line in (*lines, card, "END")))
    found = with_valid_wcs(image, Header())
    assert wcs_problem(image)
    assert (wcs_problem(found), celestial_cards(found), celestial_wcs(found)) == (None, [], None)
    assert card[10:13] in found.notes[-1]
    assert found.notes[-1].endswith("the telescope's offsets are used")


@pytest.mark.parametrize(
    ("cards", "named"),
    [
        ({"CTYPE1": "LINEAR"}, "LINEAR"), ({"CTYPE1": "RA---XXX"}, "RA---XXX"), ({"CTYPE2": "RA---TAN"}, "CTYPE2"),
        ({"CTYPE1": "RA---SIN"}, "RA---SIN"), ({"CTYPE1": "GLON-TAN"}, "GLON-TAN"), ({"A_ORDER": 3}, "A_ORDER"),
        ({"CTYPE1": "RA---ZPN", "CTYPE2": "DEC--ZPN"}, "ZPN"), ({"CTYPE1": "WAVE", "CTYPE2": "FREQ"}, "WAVE"),
    ],
)  # fmt: skip
def test_what_wcslib_refuses_is_invalid(cards: dict[str, Any], named: str) -> None:
    image = Header(GOOD | cards)
    found = with_valid_wcs(image, Header(GOOD))
    assert named in found.notes[-1]
    assert celestial_cards(found) == celestial_cards(Header(GOOD))
    assert celestial_wcs(image) is None


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"},
        {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 34.1, "CRVAL2": 136.4}, {"RADESYS": "FK4"},
        {"PV2_1": 0.5}, {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"},
    ],
)  # fmt: skip
def test_other_forms_are_valid(cards: dict[str, Any]) -> None:
    image = Header(GOOD | cards)
    assert with_valid_wcs(image, Header()) is image
    assert celestial_wcs(image).has_celestial


def test_a_decimal_comma_is_a_valid_number() -> None:
    image = Header(GOOD | {"CRVAL1": "136,3759"})
    assert with_valid_wcs(image, Header()) is image
    assert celestial_cards(image) == celestial_cards(Header(GOOD))


def test_an_image_without_wcs_stays_without() -> None:
    image = Header({"EXTNAME": "SCI", "CTYPE1": "", "CTYPE2": ""})
    assert with_valid_wcs(image, Header(GOOD)) is image
    assert wcs_problem(image) is None


def test_the_primary_header_may_be_that_of_the_image() -> None:
    both = Header(GOOD | {"CD1_1": 0.0})
    assert "telescope's offsets" in with_valid_wcs(both, both).notes[0]


@pytest.mark.parametrize(
    ("cards", "scale"),
    [
        ({"CDELT1": -1e-4, "CDELT2": 1e-4}, 1e-4),
        ({"CDELT1": -1e-4, "CDELT2": 1e-4, "PC1_1": 0.0, "PC1_2": 1.0, "PC2_1": 1.0, "PC2_2": 0.0}, 1e-4),
        ({"CD1_2": 1e-4, "CD2_1": 1e-4}, 1e-4),
    ],
)
def test_all_forms_of_the_matrix(cards: dict[str, float], scale: float) -> None:
    wcs = celestial_wcs(Header({k: v for k, v in GOOD.items() if not k.startswith("CD")} | cards))
    assert abs(wcs.pixel_scale_matrix).max() == pytest.approx(scale)


@pytest.mark.parametrize(
    ("equinox", "value"), [("J2000", 2000.0), ("2000.0", 2000.0), ("now", 2000.0), (1975.0, 1975.0)]
)
def test_the_equinox_is_a_number(equinox: object, value: float) -> None:
    cards = {card[0]: card[1] for card in celestial_cards(Header(GOOD | {"EQUINOX": equinox}))}
    assert cards["EQUINOX"] == value


def test_a_distortion_that_is_no_number_is_left_out() -> None:
    cards = celestial_cards(Header(GOOD | {"PV1_1": "one", "PV2_1": 0.5}))
    assert [card for card in cards if card[0].startswith("PV")] == [("PV2_1", 0.5)]


def test_old_keywords_turn_the_image() -> None:
    old = {name: value for name, value in GOOD.items() if not name.startswith("CD")}
    old |= {"CDELT1": -3e-5, "CDELT2": 3e-5, "CROTA2": 30.0}
    ours, reference = celestial_wcs(Header(old)), WCS(dict(old))
    x, y = (0.0, 500.0, 900.0), (0.0, 400.0, 100.0)
    for found, wanted in zip(ours.all_pix2world(x, y, 0), reference.all_pix2world(x, y, 0), strict=True):
        assert found == pytest.approx(wanted, abs=1e-9)
    assert wcs_problem(Header(old | {"CROTA2": "steep"})) == "CROTA2 = 'steep'"


def test_values_in_arcsec_are_compared_in_degrees() -> None:
    matrix = {name: value * 3600 for name, value in GOOD.items() if name.startswith("CD")}
    arcsec = (
        GOOD
        | matrix
        | {"CRVAL1": 136.3759 * 3600, "CRVAL2": -30.0 * 3600, "CUNIT1": "arcsec", "CUNIT2": "arcsec"}
    )
    assert wcs_problem(Header(arcsec)) == ""
    assert wcs_problem(Header(arcsec | {"CRVAL2": -100.0 * 3600})) == "CRVAL2 = -360000.0"
    assert "arcsec" in str(wcs_problem(Header(arcsec | {"CUNIT1": "rad", "CUNIT2": "rad", "CRVAL2": 0.1})))

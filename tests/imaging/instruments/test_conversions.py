"""Headers of another build: other units, sexagesimal positions, offsets on the sky, names in another keyword."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from own_cameras import EXAMPLES, OWL, tables

from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.frames.pointing import moved_by, pointing
from imaging.header import Header
from imaging.instruments import catalogue
from imaging.instruments.conversions import Conversion, SkyOffsets
from imaging.instruments.examination import first_table

OWL_CARDS: dict[str, Any] = {
    "CAMERA": "Owl", "IMAGETYP": "Light Frame", "OBJECT": "M 1", "EXPOSURE": 30.0, "NSAMP": 1, "FILTER": "J",
    "DATE-OBS": "2024-05-01T03:12:45.0", "OBJCTRA": "05 34 31.94", "OBJCTDEC": "-22:30:36.0", "OFF_EAST": 10.0,
    "OFF_NORT": -5.0,
}  # fmt: skip
#: What headers of NIRC2 have; invented values.
NIRC2_CARDS: dict[str, Any] = {
    "CURRINST": "NIRC2", "IMAGETYP": "data", "TARGNAME": "STAR", "ITIME": 0.181, "COADDS": 20, "SAMPMODE": 2,
    "CAMNAME": "narrow", "SLITNAME": "none", "GRSNAME": "clear", "FWINAME": "clear", "FWONAME": "Kp",
    "SHRNAME": "open", "DATE-OBS": "2019-03-02", "EXPSTART": "09:10:11.5", "UTC": "09:10:10.9", "RA": 120.001,
    "DEC": 60.0005, "RAOFF": 0.001, "DECOFF": 0.0005, "ROTPOSN": 90.7, "AIRMASS": 1.2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cameras() -> Iterator[None]:
    with tables(OWL, EXAMPLES / "nirc2.toml"):
        yield


def read(cards: dict[str, Any], **changes: Any) -> FrameFacts:
    return facts_from_headers(cards | changes, None, name="a.fits")


def test_a_keyword_of_the_table_names_the_instrument() -> None:
    facts = read(OWL_CARDS)
    assert (facts.instrument, facts.kind, facts.filter, facts.read_noise) == ("Owl", "object", "J", 11.7)
    with pytest.raises(FrameError, match="INSTRUME"):
        read(OWL_CARDS, CAMERA="Hawk")
    # INSTRUME counts first: a product of another camera may keep its cards.
    both = catalogue.by_header({"INSTRUME": "F2", "CAMERA": "Owl"})
    assert both is not None
    assert both.name == "F2"


def test_date_and_time_in_one_keyword() -> None:
    assert read(OWL_CARDS).started.isoformat() == "2024-05-01T03:12:45+00:00"


def test_sexagesimal_positions() -> None:
    facts = read(OWL_CARDS)
    assert facts.ra == pytest.approx(15 * (5 + 34 / 60 + 31.94 / 3600))
    assert facts.dec == pytest.approx(-(22 + 30 / 60 + 36 / 3600))
    assert read(OWL_CARDS, OBJCTDEC="-00 00 30").dec == pytest.approx(-30 / 3600)
    assert read(OWL_CARDS, OBJCTRA="83.63", OBJCTDEC=22.0).ra == 83.63
    odd = read(OWL_CARDS, OBJCTRA="5 h 34 m")
    assert odd.ra is None
    assert "OBJCTRA is not a number and counts as missing" in odd.notes


def test_a_camera_of_keck() -> None:
    facts = read(NIRC2_CARDS)
    assert (facts.instrument, facts.filter, facts.target, facts.coadds) == ("NIRC2", "Kp", "STAR", 20)
    assert facts.read_noise == pytest.approx(60 * math.sqrt(20))
    assert facts.started.isoformat() == "2019-03-02T09:10:11.500000+00:00"
    assert str(facts.night) == "2019-03-02"
    assert facts.pa == pytest.approx(90.0)
    # East 3.6 arcsec, North 1.8 arcsec; at 90 degrees, East is along Q and North against P.
    assert (facts.poffset, facts.qoffset) == pytest.approx((-1.8, 3.6))
    # RA and DEC are those of the telescope: its offsets are in them already.
    position = pointing(facts)
    assert position is not None
    assert position == pytest.approx((120.001, 60.0005), abs=1e-7)
    assert facts.dec == pytest.approx(60.0)


@pytest.mark.parametrize("angle", [0.0, 33.0, 180.0])
@pytest.mark.parametrize("axes", ["sky", "instrument"])
def test_the_position_of_the_telescope_is_found_again(angle: float, axes: Any) -> None:
    offsets = SkyOffsets(axes=axes, position="telescope")
    given = {"pa": angle, "poffset": 12.0, "qoffset": -7.0, "ra": 359.999, "dec": -60.0}
    facts = read(OWL_CARDS).model_copy(update=offsets.with_offsets(given))
    assert pointing(facts) == pytest.approx((359.999, -60.0), abs=1e-7)
    if axes == "sky":
        assert math.hypot(facts.poffset, facts.qoffset) == pytest.approx(math.hypot(12, 7))


def test_offsets_towards_east_move_stars_as_the_table_has_it() -> None:
    facts = read(OWL_CARDS)
    assert moved_by(facts) == pytest.approx((5.0 / 0.179, -10.0 / 0.179))


def test_numbers_of_an_instrument_keep_their_bits() -> None:
    assert Conversion().converted(0.1) == 0.1
    assert Conversion(factor=3600, add=-1.0).converted(0.5) == 1799.0


def test_the_default_of_a_number_has_the_unit_of_the_fact() -> None:
    without = {k: v for k, v in NIRC2_CARDS.items() if k not in ("ROTPOSN", "RAOFF", "DECOFF")}
    facts = read(without)
    assert (facts.pa, facts.poffset, facts.qoffset) == (0.0, 0.0, 0.0)


def test_a_first_table_names_the_keyword_of_the_instrument(tmp_path: Path) -> None:
    text = first_table(Header({**OWL_CARDS, "CAMERA": "Hawk"}), None, (64, 64))
    assert 'name = "Hawk"' in text
    assert 'named_by = ["CAMERA"]   # there is no INSTRUME' in text
    assert 'ra = { keywords = ["OBJCTRA"] }' in text
    path = tmp_path / "hawk.toml"
    path.write_text(text.replace("= 0.0", "= 1.0"))
    with tables(path):
        facts = read(OWL_CARDS, CAMERA="Hawk")
        assert (facts.instrument, facts.filter, facts.exposure_time) == ("Hawk", "J", 30.0)
    named = first_table(Header({**OWL_CARDS, "INSTRUME": "Owl 2"}), None, (64, 64))
    assert "named_by" not in named


def test_the_tables_in_the_docs_are_valid(tmp_path: Path) -> None:
    page = (EXAMPLES.parent / "instruments.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    path = tmp_path / "docs.toml"
    path.write_text(OWL.read_text() + "\n" + "\n".join(blocks))
    table = catalogue.read_table(path)
    assert [one.place for one in table.detector.arrays] == [
        (slice(0, 1024), slice(x, x + 512)) for x in (0, 512)
    ]
    assert table.defaults == {"sky": {"least_distance": 1.0}}

"""Facts that follow from several keywords, for a camera that only a table knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calib_store.rules.rules_toml import shipped_rules
from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.instruments import catalogue
from imaging.instruments.detector import wanted_shapes
from imaging.instruments.own_tables import OWN_TABLES

MYCAM = Path(__file__).parent / "mycam.toml"
CARDS: dict[str, Any] = {
    "INSTRUME": "MYCAM", "IMAGETYP": "OBJECT", "DATE": "2024-05-01", "UT": "03:00:00", "ITIME": 10.0, "NCOADD": 4,
    "CAMERA": "wide", "FILTER": "J", "BIAS": -0.6, "MODE": "fast", "CLOCK": 2, "V1": -3.0, "V2": -2.4, "X1": 1,
    "X2": 1024, "Y1": 1, "Y2": 512, "PARK": "out", "FRAME": "obs-007",
}  # fmt: skip
#: What the table has in addition.
CHANGES = {
    "[names]": """
[facts.speed]
keywords = ["MODE", "CLOCK"]
choices = [
    { value = "slow", when = { MODE = ["slow*"] } },
    { when = { MODE = ["fast"], CLOCK = ["2", "3"] } },
]
[facts.bias_level]
keywords = ["V1"]
minus = ["V2", "V3"]
levels = { low = [-0.7, -0.5], high = [0.5, 0.7] }
[facts.section]
keywords = ["X1", "X2", "Y1", "Y2"]
corners = { centred = true }
[facts.park]
keywords = ["PARK"]
default = "out"
[facts.data_label]
keywords = ["FRAME"]
default = ""
[names]""",
    'ignore = ["pupil*"]': """ignore = ["pupil*"]
[[wheels]]
keywords = ["FILTER2"]
blockers = ["block*"]
refused = ["error *"]
[filter_names]
"k&nb" = "NB2.1"
""",
    "port = 1": """port = 1
unless = { park = ["in"] }
[unfit]
first_of_observation = '-0*1$'
dark_filters = ["cold*"]
""",
    "shape = [512, 1024]": "shape = [512, 1024]\nsubarrays = [[128, 256]]",
    'when = { camera = ["wide"] }': 'when = { camera = ["wide"] }\nnote = "an assumed scale"',
    "nonlinearity = [1.0, 1e-7, 0.0]": "nonlinearity = [1.0, 1e-7, 0.0]\nextra_exposure = 2.5",
    "[same]": """[[zero_points]]
when = { camera = ["wide"] }
values = { J = 25.0 }
[[zero_points]]
values = { J = 24.0, L = 23.0 }
errors = { L = 0.2 }
[same]""",
}


@pytest.fixture(scope="module", autouse=True)
def _table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    text = MYCAM.read_text()
    for old, new in CHANGES.items():
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path_factory.mktemp("tables") / "mine.toml"
    path.write_text(text)
    before = OWN_TABLES.paths
    catalogue.own_tables_from(lambda: [path])
    shipped_rules.cache_clear()
    yield
    catalogue.own_tables_from(before)
    shipped_rules.cache_clear()


def read(**changes: Any) -> FrameFacts:
    cards = {k: v for k, v in (CARDS | changes).items() if v is not None}
    return facts_from_headers(cards, {"NAXIS1": 1024, "NAXIS2": 512}, name="m1.fits")


def test_the_first_choice_whose_keywords_match() -> None:
    assert read().value("speed") == "fast"
    assert read(MODE="slow 2").value("speed") == "slow"
    assert read(MODE="FAST", CLOCK=3).value("speed") == "FAST"
    with pytest.raises(FrameError, match=r"MODE \+ CLOCK = 'fast, 4', expected some of slow\*, fast, 2, 3"):
        read(CLOCK=4)


def test_the_level_of_a_difference() -> None:
    assert read().value("bias_level") == "low"
    assert read(V1=-1.8).value("bias_level") == "high"
    assert read(V2=None, V3=-2.4).value("bias_level") == "low"
    with pytest.raises(
        FrameError, match=r"V1 - V2 = -0\.1, expected -0\.7 to -0\.5 \(low\) or 0\.5 to 0\.7 \(high\)"
    ):
        read(V1=-2.5)
    with pytest.raises(FrameError, match="V2"):
        read(V2=None)


def test_the_corners_of_a_section() -> None:
    assert read().section == "[1:1024,1:512]"
    cards = CARDS | {"X2": 256, "Y2": 128}
    assert (
        facts_from_headers(cards, {"NAXIS1": 256, "NAXIS2": 128}, name="m.fits").section
        == "[385:640,193:320]"
    )
    with pytest.raises(FrameError, match="X1 = None"):
        read(X1=None)


def test_blockers_and_names_of_filters() -> None:
    assert (read(FILTER2="block1").filter, read(FILTER="Open", FILTER2="block1").filter) == ("J", "block1")
    assert (read(FILTER="K", FILTER2="NB").filter_id, read(FILTER="K", FILTER2="NB").filter) == (
        "K&NB",
        "NB2.1",
    )
    with pytest.raises(FrameError, match="FILTER2 = 'error 7', expected the name of a filter"):
        read(FILTER2="error 7")


def test_frames_that_are_of_no_use() -> None:
    assert read(FILTER="cold").unfit() == "no light reached the detector (FILTER = 'cold')"
    assert read(FILTER="cold", IMAGETYP="DARK").unfit() is None
    assert read().first_frame() is None
    assert read(FRAME="obs-001").first_frame() is not None


def test_numbers_with_a_note_and_light_beyond_the_exposure_time() -> None:
    assert "an assumed scale" in read().notes
    assert read(CAMERA="narrow").notes == ()
    deep = read(BIAS=-0.9).readout
    assert deep.time_scale == 10 / 12.5
    assert deep.nonlinearity == pytest.approx((0.8, 0.8e-7, 0.0))
    assert read().readout.time_scale == 1.0


def test_zero_points_by_camera_and_band() -> None:
    table = read().table
    assert table.zero_point(read().values) == 25.0
    assert table.zero_point(read(CAMERA="narrow").values) == 24.0
    assert table.zero_point(read(FILTER="L").values) == 23.0
    assert table.zero_point(read(FILTER="H").values) is None
    assert table.zero_point_error(read(FILTER="L").values) == 0.2
    assert table.zero_point_error(read().values) == 0.08


def test_the_shapes_that_are_accepted() -> None:
    detector = read().table.detector
    assert wanted_shapes("detector", detector) == ((512, 1024), (128, 256))
    assert wanted_shapes((10, 20), detector) == ((10, 20),)
    assert wanted_shapes(None, detector) is None


def test_offsets_are_not_flipped_with_some_facts() -> None:
    offsets = read().table.offsets
    facts = read().values | {"inport": 1}
    assert offsets.signs(facts) == (-1.0, -1.0)
    assert offsets.signs(facts | {"park": "in"}) == (1.0, -1.0)


def test_a_wheel_of_the_first_instrument_that_did_not_answer() -> None:
    cards = {
        "INSTRUME": "F2", "OBSTYPE": "OBJECT", "FILTER1": "Get Timed Out?", "FILTER2": "Open", "LNRS": 1,
        "EXPTIME": 20.0, "COADDS": 1, "DATE-OBS": "2022-10-20", "UTSTART": "04:11:28.2", "GRISM": "Open",
        "MOSPOS": "Open",
    }  # fmt: skip
    with pytest.raises(FrameError, match=r"FILTER1 = 'Get Timed Out\?', expected the name of a filter"):
        facts_from_headers(cards, {}, name="S20221020S0034.fits")

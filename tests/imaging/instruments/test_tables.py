"""Tables of instruments: what they have to hold, how frames are read by them, and a camera that only a table knows."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib_store.rules.rules_toml import shipped_rules
from imaging.calibrations.illumination import measure_circle
from imaging.detrend.prepare import PrepareParameters, prepare
from imaging.errors import FrameError, NirflowError
from imaging.frames.calibration_groups import calibration_groups
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.frames.groups import GroupParameters, shared
from imaging.frames.sequences import Sequence
from imaging.instruments import catalogue
from imaging.instruments.examination import FactRead, first_table, read_facts
from imaging.instruments.own_tables import OWN_TABLES
from imaging.kinds import KINDS
from imaging.pixels.dq import DQ
from imaging.pixels.noise import NoiseModel
from imaging.products.header_cards import saturation_electrons
from tasks.building.recipe import Ingredient, Recipe
from tasks.support.references import RawFrame

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
MYCAM = HERE / "mycam.toml"
CARDS: dict[str, Any] = {
    "INSTRUME": "MYCAM", "IMAGETYP": "OBJECT", "DATE": "2024-05-01", "UT": "03:00:00", "ITIME": 10.0, "NCOADD": 4,
    "CAMERA": "wide", "FILTER": "J", "OBJECT": "M 1", "BIAS": -0.6,
}  # fmt: skip


@pytest.fixture
def mycam() -> Iterator[None]:
    """The made-up camera among the instruments."""
    before = OWN_TABLES.paths
    catalogue.own_tables_from(lambda: [MYCAM])
    shipped_rules.cache_clear()
    yield
    catalogue.own_tables_from(before)
    shipped_rules.cache_clear()


def read(**changes: Any) -> FrameFacts:
    cards = {k: v for k, v in (CARDS | changes).items() if v is not None}
    return facts_from_headers(cards, None, name="m1.fits")


# The seam

#: What no module outside `imaging/instruments` knows: the instruments' names, keywords, parts, and numbers.
ITS_OWN = re.compile(
    r"\b(f2|F2|FLAMINGOS\w*|LNRS|[Ll]yot\w*|LYOT\w*|2048|4\.44|155400(\.0)?|0\.179|0\.9999107|1049\.9|1055\.0"
    r"|niri|NIRI|NDAVGS|A_VD\w+|(LOW|HI)(ROW|COL)|AOFOLD|PK50|(Low|Medium|High)_Background|12\.3|0\.1171)\b"
)


def test_no_module_knows_an_instrument() -> None:
    found = []
    for package in ("imaging", "calib_store", "tasks", "flows", "deployments", "nirflow"):
        for path in (ROOT / package).rglob("*.py"):
            if path.relative_to(ROOT).parts[:2] in (("imaging", "instruments"), ("imaging", "simulator")):
                continue
            if ITS_OWN.search(path.read_text(encoding="utf-8")) is None:
                continue  # nor has any of its tokens
            with path.open("rb") as file:
                for token in tokenize.tokenize(file.readline):
                    if match := ITS_OWN.search(token.string):
                        found.append(f"{path.relative_to(ROOT)}:{token.start[0]}: {match.group()}")
    assert found == []


def test_such_a_name_would_be_found() -> None:
    assert all(
        ITS_OWN.search(text)
        for text in ("from imaging.instruments import f2", "x = 4.44 / n", '"lyot"', '"A_VDDUC"', "'NIRI'")
    )


# Reading by a table


def test_frames_of_a_camera_that_only_a_table_knows(mycam: None) -> None:
    facts = read()
    assert (facts.instrument, facts.kind, facts.filter, facts.exposure_time) == ("MYCAM", "object", "J", 10.0)
    assert (facts.value("camera"), facts.value("well"), facts.coadds) == ("wide", -0.6, 4)
    assert facts.section == "[1:1024,1:512]"
    assert facts.detector == "MYCAM"
    assert facts.started == datetime(2024, 5, 1, 3, tzinfo=UTC)
    assert facts.tags == {"MINE", "RAW", "IMAGE"}
    assert read(INSTRUME="MyCam-2", CAMERA="NARROW-1").value("camera") == "narrow"
    assert read(FILTER="pupil 3").filter_id == "Open"
    assert FrameFacts.model_validate_json(facts.model_dump_json()) == facts
    assert facts.value("lyot") is None


def test_the_frame_carries_its_numbers(mycam: None) -> None:
    wide, narrow = read().readout, read(CAMERA="narrow", BIAS=-0.9).readout
    # Averaged coadds: one ADU is the electrons of all four.
    assert (wide.gain, wide.read_noise, wide.saturation) == (8.0, 40.0, 50_000)
    assert (wide.pixel_scale, narrow.pixel_scale, narrow.read_noise) == (0.1, 0.02, 30.0)
    assert (narrow.saturation, narrow.nonlinearity) == (100_000, (1.0, 1e-7, 0.0))
    assert saturation_electrons(read(), corrected=True) == 4 * 100_000.0
    assert NoiseModel.of(read()).gain == 8.0


def test_pixels_are_prepared_by_the_table(mycam: None) -> None:
    adu = np.array([[1000, 40_001, 50_000]], np.int32)
    sci, _, dq = prepare(adu, read())
    np.testing.assert_array_equal(sci, adu * 8.0)
    assert dq.tolist() == [[DQ.GOOD, DQ.NON_LINEAR, DQ.SATURATED]]
    assert PrepareParameters().for_frame(read()).linear_fraction == 0.8
    sci, _, _ = prepare(adu[:, :1], read(BIAS=-0.9))
    assert sci[0, 0] == pytest.approx(4 * (2000 + 1e-7 * 2000**2))


def test_a_detector_without_a_circle_of_light_is_lit_all_over(mycam: None) -> None:
    circle = measure_circle(np.ones((512, 1024), np.float32), read().table.detector)
    assert (circle.reason, circle.measured) == ("", False)
    assert circle.mask((512, 1024)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CAMERA": "other"}, r"CAMERA = 'other', expected one of wide, narrow"),
        ({"BIAS": -0.7}, r"BIAS = -0.7, expected one of -0.6, -0.9"),
        ({"BIAS": -3.0}, r"BIAS = -3.0, expected a number from -1 to 0"),
        ({"CAMERA": None}, r"CAMERA"),
        ({"ITIME": 3600.0}, r"ITIME = 3600.0, expected a number of seconds above 0 and below 3600"),
        ({"NCOADD": 101}, r"NCOADD = 101, expected a whole number from 1 to 100"),
        ({"IMAGETYP": "BIAS"}, r"IMAGETYP = 'BIAS', expected one of DARK\*, FLAT\*, OBJECT"),
    ],
)
def test_what_a_table_does_not_allow_is_refused(mycam: None, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FrameError, match=message):
        read(**changes)


def test_an_unknown_instrument_is_refused_with_those_that_are_known(mycam: None) -> None:
    with pytest.raises(FrameError) as caught:
        read(INSTRUME="GMOS-S")
    error = caught.value
    assert (error.name, error.keyword, error.found) == ("m1.fits", "INSTRUME", "GMOS-S")
    assert error.expected == "'F2' or 'Flam' or 'NIRI' or 'MYCAM' or 'MyCam-2'"
    assert "nirflow instruments new --from FILE" in error.remedy


def test_facts_of_another_instrument_are_refused(mycam: None) -> None:
    with pytest.raises(ValueError, match="camera"):
        FrameFacts.model_validate(read().model_dump() | {"instrument": "F2"})


def test_a_number_of_a_users_own_table_is_part_of_what_a_product_is(mycam: None, tmp_path: Path) -> None:
    frame = RawFrame(
        sha256="1" * 64, path=Path("m1.fits"), source=Path("m1.fits"), facts=read(IMAGETYP="DARK")
    )
    recipe = Recipe("dark", "dark", 1, [Ingredient("dark", frame)], {})
    key = recipe.key
    assert recipe.values == {"instrument": {"table": catalogue.identity("MYCAM")}}
    other = tmp_path / "other.toml"
    other.write_text(MYCAM.read_text().replace("gain = 2.0", "gain = 2.1"))
    catalogue.own_tables_from(lambda: [other])
    assert Recipe("dark", "dark", 1, [Ingredient("dark", frame)], {}).key != key
    other.write_text(MYCAM.read_text().replace("serve = 60", "serve = 61"))
    catalogue.forget()
    assert Recipe("dark", "dark", 1, [Ingredient("dark", frame)], {}).key == key
    assert catalogue.identity("F2") is None


# What has to be the same


def test_groups_and_sequences_follow_from_the_table(mycam: None) -> None:
    dark = {"IMAGETYP": "DARK", "CAMERA": "wide"}
    frames = [
        read(**dark).model_copy(update={"name": "d1"}),
        read(**dark | {"CAMERA": "narrow", "UT": "03:01:00"}).model_copy(update={"name": "d2"}),
        read(**dark | {"BIAS": -0.9}).model_copy(update={"name": "d3"}),
        read(**dark | {"DATE": "2024-05-04"}).model_copy(update={"name": "d4"}),
    ]
    members = [group.members for group in calibration_groups(frames)]
    assert sorted(members) == [("d1", "d2"), ("d3",), ("d4",)]
    longer = calibration_groups(frames, GroupParameters(max_gap_days=4))
    assert sorted(group.members for group in longer) == [("d1", "d2", "d4"), ("d3",)]
    assert list(shared(frames[0], "flat")) == [
        "exposure_time",
        "coadds",
        "well",
        "section",
        "camera",
        "filter_id",
    ]
    names = [Sequence.of(read(**changes)).name for changes in ({}, {"CAMERA": "narrow"}, {"UT": "04:00:00"})]  # type: ignore[union-attr]
    assert names[0] == names[2] != names[1]


def test_rules_follow_from_the_tables(mycam: None) -> None:
    rules = shipped_rules()
    assert rules.version.endswith("+mycam-1")
    (dark,) = rules.for_kind("dark", read())
    assert (dark.name, dark.instrument, dark.window_days) == ("MYCAM dark", "MYCAM", 5.0)
    assert dark.match == ("instrument", "exposure_time", "coadds", "well", "section")
    assert dark.tolerance == {"exposure_time": 0.01}
    assert [rule.name for rule in rules.for_kind("bpm", read())] == ["MYCAM bpm", "MYCAM static bpm"]
    assert [rule.name for rule in rules.for_kind("bpm", {"instrument": "F2"})] == ["bpm", "static bpm"]
    assert dark.first_difference(dark.keys_of(read()), read(BIAS=-0.9)) == "well -0.6 V, frame -0.9 V"
    assert rules.configuration("flat", read()).keys == {  # type: ignore[union-attr]
        "instrument": "MYCAM", "camera": "wide", "filter_id": "J",
    }  # fmt: skip


def test_rules_about_an_instrument_keep_their_digest_without_one(mycam: None) -> None:
    alone = shipped_rules().model_copy(
        update={"rules": tuple(rule for rule in shipped_rules().rules if rule.instrument != "MYCAM")}
    )
    catalogue.own_tables_from(tuple)
    shipped_rules.cache_clear()
    assert alone.digest == shipped_rules().digest


# A table itself


def test_a_kind_that_a_table_does_not_list_has_its_own_facts_and_windows(tmp_path: Path) -> None:
    text = MYCAM.read_text()
    path = tmp_path / "mine.toml"
    path.write_text(
        text[: text.index("[same]")] + '[same]\nbpm = ["section"]\n\n[windows]\nimage = { gap = 2 }\n'
    )
    mine, full = catalogue.read_table(path), catalogue.read_table(MYCAM)
    assert mine.same == {kind.name: kind.same for kind in KINDS.values()} | {"bpm": ("section",)}
    assert mine.windows["image"].days("gap") == 2
    assert mine.windows["dark"].model_dump(exclude_none=True) == dict(KINDS["dark"].windows)
    assert full.same["dark"] == ("exposure_time", "coadds", "well", "section")
    assert full.windows["bpm"].model_dump(exclude_none=True) == {"pair": 4, "wait": 30, "serve": 60}


def test_quirks_that_cannot_be_found_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MYCAM.read_text().replace("[facts]", 'quirks = "no_such:thing"\n[facts]', 1).replace(
        'name = "MYCAM"', 'name = "ODDCAM"').replace('aliases = ["MyCam-2"]', ""))  # fmt: skip
    with pytest.raises(NirflowError, match="'no_such:thing', which cannot be imported: ModuleNotFoundError"):
        catalogue.quirks_of(catalogue.read_table(path))


def test_a_frame_without_an_instrument_leads_to_a_table(mycam: None) -> None:
    with pytest.raises(FrameError, match=r"INSTRUME = None, expected .*'MYCAM'") as caught:
        read(INSTRUME=None)
    assert "named_by" in caught.value.remedy


def test_a_frame_of_another_instrument_is_found_whatever_names_it(mycam: None) -> None:
    def instrument(**cards: str) -> FactRead:
        named = {k: v for k, v in (CARDS | cards).items() if v}
        return read_facts(catalogue.named("MYCAM"), named, None, "m1.fits")[0]

    assert instrument().fact == "filter_id"
    other = instrument(INSTRUME="NIRI")
    assert (other.value, other.problem) == ("NIRI", "the frame is not one of MYCAM")
    assert "named_by" in instrument(INSTRUME="").problem


def test_two_tables_of_one_instrument_are_refused(mycam: None) -> None:
    catalogue.own_tables_from(lambda: [MYCAM, MYCAM])
    with pytest.raises(NirflowError, match="both describe the instrument 'MYCAM'"):
        catalogue.tables()


def test_a_package_brings_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "of-a-package"
        value = "of_a_package:path"
        dist = None

        def load(self) -> Path:
            return MYCAM

    # The folder of the package may be on sys.path twice.
    monkeypatch.setattr(
        catalogue, "entry_points", lambda group: [Point(), Point()] if group == "nirflow.instruments" else []
    )
    catalogue.forget()
    assert [(t.instrument.name, t.origin) for t in catalogue.tables()][-1] == ("MYCAM", "of-a-package")
    monkeypatch.undo()
    catalogue.forget()
    assert catalogue.find("MYCAM") is None


def test_a_package_without_its_table_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("lost", "no_such_package:table", "nirflow.instruments")
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [point])
    catalogue.forget()
    with pytest.raises(
        NirflowError, match=r"table 'lost' of the package .* \(no_such_package:table\) cannot be found"
    ):
        catalogue.tables()
    monkeypatch.undo()
    catalogue.forget()


def test_every_fact_is_examined_whatever_is_wrong(mycam: None) -> None:
    cards = CARDS | {"NCOADD": 0, "BIAS": "low"}
    seen = {one.fact: one for one in read_facts(catalogue.named("MYCAM"), cards, None, "m1.fits")}
    assert (seen["camera"].value, seen["camera"].keywords, seen["camera"].problem) == ("wide", "CAMERA", "")
    assert "whole number from 1 to 100" in seen["coadds"].problem
    assert "a number" in seen["well"].problem
    assert seen["program"].keywords == "not in the table"
    assert seen["kind"].problem
    good = {one.fact: one.value for one in read_facts(catalogue.named("MYCAM"), CARDS, None, "m1.fits")}
    assert (good["kind"], good["gain"], good["pixel_scale"]) == ("object", 8.0, 0.1)


def test_a_first_table_takes_date_and_time_from_one_card_and_a_name_from_any(tmp_path: Path) -> None:
    cards = {
        "CAMERA": "Owl Eye", "IMAGETYP": "Light Frame", "EXPOSURE": 10.0, "FILTER": "J",
        "DATE-OBS": "2024-05-01T03:00:00.0", "OBJECT": "M 1",
    }  # fmt: skip
    path = tmp_path / "first.toml"
    path.write_text(first_table(cards, None, (64, 64)).replace("= 0.0\n", "= 1000.0\n"))
    table = catalogue.read_table(path)
    assert (table.name, table.aliases, table.named_by) == ("Owl-Eye", ("Owl Eye",), ("CAMERA",))
    assert "camera" not in table.facts
    catalogue.try_table(table, path)
    facts = facts_from_headers(cards, None, name="o1.fits")
    assert (facts.kind, facts.started) == ("object", datetime(2024, 5, 1, 3, tzinfo=UTC))
    catalogue._trial = None
    catalogue.forget()


def test_a_first_table_has_what_a_header_shows(tmp_path: Path) -> None:
    cards = CARDS | {"EXPTIME": 10.0, "GAIN": 2.5, "INSTRUME": "NEWCAM", "PIXSCALE": 0.2, "RDNOISE": 11.0}
    path = tmp_path / "first.toml"
    text = first_table(cards, None, (512, 1024))
    path.write_text(text)
    with pytest.raises(NirflowError, match=r"field_diameter|well_depth"):
        catalogue.read_table(path)
    path.write_text(text.replace("= 0.0\n", "= 1000.0\n"))
    table = catalogue.read_table(path)
    assert (table.name, table.detector.shape, table.detector.gain) == ("NEWCAM", (512, 1024), 2.5)
    catalogue.try_table(table, path)
    facts = read(INSTRUME="NEWCAM", **{"DATE-OBS": "2024-05-01", "UTSTART": "03:00:00", "EXPTIME": 10.0})
    catalogue._trial = None
    catalogue.forget()
    assert (facts.kind, facts.filter_id, facts.target) == ("object", "J", "M 1")

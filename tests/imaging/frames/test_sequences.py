"""Sequences: what frames of one have in common, what parts two, and the names."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence, night_in

#: 17:00 UT, 14:00 at the telescope, ends a night.
BEFORE, AFTER = datetime(2013, 11, 21, 16, 59, 59, tzinfo=UTC), datetime(2013, 11, 21, 17, tzinfo=UTC)


def name(frame: FrameFacts) -> str:
    sequence = Sequence.of(frame)
    assert sequence is not None
    return sequence.name


def facts(**changes: Any) -> FrameFacts:
    values: dict[str, Any] = {
        "name": "S20131121S0075.fits", "instrument": "F2", "kind": "object", "observation_class": "science",
        "target": "FIELD", "exposure_time": 120.0, "coadds": 1, "read_pairs": 8, "filter_id": "Y_G0811",
        "filter": "Y", "lyot": "f/16_G5830", "focal_mask": "Open", "disperser": "Open", "detector": "109",
        "started": datetime(2013, 11, 21, 3, tzinfo=UTC),
    }  # fmt: skip
    return FrameFacts(**values | changes)


def dark(**changes: Any) -> FrameFacts:
    return facts(**{"kind": "dark", "observation_class": "dayCal", "target": "Dark"} | changes)


def flat(**changes: Any) -> FrameFacts:
    common = {"kind": "flat", "observation_class": "dayCal", "exposure_time": 20.0, "lamp": "on"}
    return facts(**common | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "S20131121S0080.fits"},
        {"started": datetime(2013, 11, 21, 9, tzinfo=UTC)},
        {"data_label": "GS-2013B-Q-15-39-007"},
    ],
)
def test_frames_of_one_sequence_have_one_name(changes: dict[str, Any]) -> None:
    assert name(facts(**changes)) == name(facts())


@pytest.mark.parametrize(
    "changes",
    [
        {"filter": "J", "filter_id": "J_G0802"},
        {"exposure_time": 60.0},
        {"observation_id": "GS-2013B-Q-15-40"},
        {"program": "GS-2014A-Q-1"},
        {"read_pairs": 1},
        {"started": AFTER},
    ],
)
def test_other_frames_are_of_another_sequence(changes: dict[str, Any]) -> None:
    assert name(facts(**changes)) != name(facts())


def test_lamp_ons_and_lamp_offs_are_of_one_sequence_and_darks_of_another() -> None:
    assert name(flat(lamp="on")) == name(flat(lamp="off"))
    assert name(flat()) != name(flat(filter="J", filter_id="J_G0802"))
    assert name(dark(filter="DK")) == name(dark(filter="Y", filter_id="Y_G0811"))  # no light comes through
    assert name(dark()) != name(dark(exposure_time=20.0))
    assert Sequence.of(dark()) == Sequence.of(dark(target="something"))


def test_the_night_is_the_one_that_ends_in_the_morning() -> None:
    before, after = Sequence.of(facts(started=BEFORE)), Sequence.of(facts(started=AFTER))
    assert before is not None
    assert after is not None
    assert (before.night, after.night) == (date(2013, 11, 21), date(2013, 11, 22))


def test_names_and_labels_contain_night_kind_and_band() -> None:
    science, darks, flats = (Sequence.of(one) for one in (facts(), dark(), flat()))
    assert science is not None
    assert darks is not None
    assert flats is not None
    assert science.name.startswith("2013-11-21.science.Y.")
    assert darks.name.startswith("2013-11-21.dark.")
    assert darks.filter == ""
    assert [one.label for one in (science, darks, flats)] == [
        "science Y FIELD 2013-11-21",
        "dark 120 s 2013-11-21",
        "flat Y 20 s 2013-11-21",
    ]
    assert (science.kind, darks.kind, flats.kind) == ("science", "dark", "flat")


def test_a_name_has_nothing_but_letters_digits_and_dashes_between_its_dots() -> None:
    odd = name(facts(filter="J lo/\N{GREEK SMALL LETTER OMEGA}.", target="../x {{ y }}"))
    _, kind, band, digest = odd.split(".")
    assert (kind, band) == ("science", "J-lo---")
    assert len(digest) == 8


@pytest.mark.parametrize(
    "changes",
    [{"processed": True}, {"kind": "arc"}, {"kind": "bpm"}, {"disperser": "JH_G5801"}, {"quality": "FAIL"}],
)  # fmt: skip
def test_frames_that_are_not_reduced_have_no_sequence(changes: dict[str, Any]) -> None:
    assert Sequence.of(facts(**changes)) is None


def test_the_night_in_a_name() -> None:
    assert night_in(name(facts())) == date(2013, 11, 21)
    assert night_in(name(facts(kind="dark"))) == night_in(name(facts(filter=""))) == date(2013, 11, 21)


@pytest.mark.parametrize(
    "wrong",
    [
        "", "tonight", "science.Y.1f0c9a2b", "2013-11-21", "2013-11-21.science.Y", "2013-11-21.science.Y.0a",
        "2013-13-01.science.Y.1f0c9a2b", "0001-01-01.science.Y.1f0c9a2b", "2013-W47-4.science.Y.1f0c9a2b",
        "2013-11-21.arc.Y.1f0c9a2b", "2013-11-21.science.Y.1f0c9a2b\n", "2013-11-21.science.Y.1f0c9a2b.x",
        "2013-11-21.science.Y.1f0c9a2b/../../../../x", "2013-11-21.science.../x.1f0c9a2b",
    ],
)  # fmt: skip
def test_an_incomplete_name_of_a_sequence_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"name of a sequence|month|not a night"):
        night_in(wrong)

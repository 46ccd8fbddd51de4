"""One exposure in several files: which frames those are, and which of them is used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.frames.doubles import doubles, exposures
from imaging.frames.facts import FrameFacts, facts_from_headers

START = datetime(2013, 11, 21, 3, tzinfo=UTC)
FIRST: dict[str, Any] = {"name": "S20131121S0075.fits", "data_label": "GS-2013B-Q-15-39-001"}
BASE: dict[str, Any] = {
    "instrument": "F2", "kind": "object", "observation_class": "science", "target": "FIELD",
    "exposure_time": 120.0, "coadds": 1, "read_pairs": 8, "filter_id": "Y_G0811", "filter": "Y",
    "lyot": "f/16_G5830", "focal_mask": "Open", "disperser": "Open", "detector": "109", "started": START,
}  # fmt: skip
FIXED: dict[str, Any] = FIRST | {"name": "S20131121S0075_fixhead.fits"}


def make(**changes: Any) -> FrameFacts:
    return FrameFacts(**BASE | changes)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (FIRST, FIXED),
        (FIRST, FIXED | {"exposure_time": 60.0}),  # the correction may be of anything
        (FIRST, FIXED | {"coadds": 3}),
        (FIRST, FIXED | {"data_label": "GS-2013B-Q-15-39-009"}),
        (FIRST, FIXED | {"data_label": ""}),
        (FIRST, FIXED | {"started": START + timedelta(hours=3)}),  # of the clock too
        (FIRST, FIRST | {"name": "copy.fits", "started": START + timedelta(milliseconds=300)}),
        ({"name": "a.fits"}, {"name": "b.fits"}),
        (FIRST, {"name": "b.fits"}),
    ],
)
def test_files_of_one_exposure(one: dict[str, Any], other: dict[str, Any]) -> None:
    frames = {"1": make(**one), "2": make(**other)}
    assert exposures(frames) == [("1", "2")]
    assert len(doubles(frames)) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # Archives hold wrong data labels: another start is another exposure.
        (FIRST, FIRST | {"name": "S20131121S0076.fits", "started": START + timedelta(seconds=132)}),
        (FIRST, FIRST | {"name": "b.fits", "started": START + timedelta(seconds=132)}),
        # Every frame with one start: label and number distinguish them.
        (FIRST, {"name": "S20131121S0076.fits", "data_label": "GS-2013B-Q-15-39-002"}),
        ({"name": "S20131121S0075.fits"}, {"name": "S20131121S0076.fits"}),
        ({"name": "a.fits", "data_label": "A"}, {"name": "b.fits", "data_label": "B"}),
        ({"name": "a.fits"}, {"name": "b.fits", "poffset": 20.0}),
        (FIRST, {"name": "b.fits", "poffset": 20.0}),
        (FIRST, FIXED | {"detector": "110", "data_label": ""}),
        (FIRST, FIXED | {"data_label": "", "started": START + timedelta(seconds=132)}),
    ],
)
def test_files_of_two_exposures(one: dict[str, Any], other: dict[str, Any]) -> None:
    frames = {"1": make(**one), "2": make(**other)}
    assert doubles(frames) == {}


def test_a_frame_that_could_be_of_either_exposure_is_of_none() -> None:
    frames = {"1": make(name="a.fits", data_label="A"), "2": make(name="b.fits", data_label="B")}
    assert doubles(frames | {"3": make(name="c.fits")}) == {}
    assert exposures({"1": frames["1"], "3": make(name="c.fits")}) == [("1", "3")]


def test_the_newest_header_is_used_then_the_last_name_then_the_last_key() -> None:
    def used(**frames: dict[str, Any]) -> tuple[str, str]:
        (double,) = doubles({key: make(**FIRST | one) for key, one in frames.items()}).values()
        return double.used, double.why

    later, earlier = datetime(2014, 1, 2, tzinfo=UTC), datetime(2013, 11, 21, tzinfo=UTC)
    assert used(a={"header_written": later}, b={"header_written": earlier, "name": FIXED["name"]}) == (
        "a", "its header is newer (2014-01-02 00:00:00, this one 2013-11-21 00:00:00)",
    )  # fmt: skip
    assert used(a={"header_written": earlier}, b={})[0] == "a"
    assert used(a={}, b={"name": FIXED["name"]}) == (
        "b", "the headers have the same date, and its name is the later one",
    )  # fmt: skip
    assert used(a={}, b={"name": "copy.fits"})[0] == "a"
    assert used(a={}, b={}) == (
        "b",
        "the headers have the same date and the names are the same, so the checksums decide",
    )


@pytest.mark.parametrize(
    ("cards", "written"),
    [
        ({}, None),
        ({"DATE": "2013-11-21"}, datetime(2013, 11, 21, tzinfo=UTC)),
        (
            {"DATE": "2013-11-21", "GEM-TLM": "2014-01-02T03:04:05"},
            datetime(2014, 1, 2, 3, 4, 5, tzinfo=UTC),
        ),
        ({"DATE": "2013-11-21T00:00:00-03:00"}, datetime(2013, 11, 21, 3, tzinfo=UTC)),
        ({"DATE": "yesterday", "GEM-TLM": 5}, None),
        ({"DATE": "0001-01-01T00:00:00+14:00"}, None),
    ],
)
def test_when_a_header_was_written(
    science: dict[str, Any], cards: dict[str, Any], written: datetime | None
) -> None:
    assert facts_from_headers(science | cards, None, name="a.fits").header_written == written


_FACTS = st.fixed_dictionaries({
    "name": st.sampled_from(["S20131121S0075.fits", "S20131121S0075_a.fits", "S20131121S0076.fits", "b.fits"]),
    "data_label": st.sampled_from(["", "A", "B"]),
    "started": st.integers(0, 4).map(lambda n: START + timedelta(seconds=0.7 * n)),
    "header_written": st.sampled_from([None, START, START + timedelta(days=1)]),
    "poffset": st.sampled_from([0.0, 20.0]),
})  # fmt: skip


@given(st.lists(_FACTS, max_size=7), st.randoms())
def test_the_choice_does_not_depend_on_the_order(many: list[dict[str, Any]], random: Any) -> None:
    frames = [(str(n), make(**one)) for n, one in enumerate(many)]
    found = doubles(dict(frames))
    random.shuffle(frames)
    assert doubles(dict(frames)) == found
    # What is used is left out by nobody, and of each exposure one is used.
    assert not {double.used for double in found.values()} & found.keys()
    for group in exposures(dict(frames)):
        assert {found[key].used for key in group if key in found} == set(group) - found.keys()

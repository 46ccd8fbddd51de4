"""Frames whose numbers differ by less than the tolerance belong together; frames with one start are noted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.frames.alike import Nominal, are_alike
from imaging.frames.calibration_groups import calibration_groups
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.frames.groups import science_groups
from imaging.frames.sequences import Sequence
from imaging.frames.simultaneous import simultaneous

CARDS: dict[str, Any] = {
    "INSTRUME": "F2", "OBSTYPE": "OBJECT", "OBSCLASS": "science", "OBJECT": "FIELD", "COADDS": 1, "LNRS": 8,
    "NREADS": 8, "FILTER2": "Y_G0811", "OIWFS_ST": "guiding", "RA": 63.49, "DEC": -47.84,
}  # fmt: skip
TOLERANCE = 0.01


def frames(times: list[float], **cards: Any) -> list[FrameFacts]:
    """Return the facts of frames with these exposure times, s, one after the other."""
    found = []
    for n, seconds in enumerate(times):
        start = datetime(2013, 11, 21, 2, tzinfo=UTC) + timedelta(minutes=3 * n)
        own = {"EXPTIME": seconds, "DATE-OBS": f"{start:%Y-%m-%d}", "UTSTART": f"{start:%H:%M:%S}"}
        found.append(facts_from_headers(CARDS | own | cards, None, name=f"S20131121S{n:04d}.fits"))
    return found


def test_exposure_times_a_few_milliseconds_apart_are_one_group() -> None:
    times = [120.0, 120.004, 119.997, 120.0, 120.003]
    (group,) = science_groups(frames(times))
    assert len(group.objects) == 5
    (darks,) = calibration_groups(frames(times, OBSTYPE="DARK"))
    assert len(darks.members) == 5
    assert len({sequence.name for one in frames(times) if (sequence := Sequence.of(one))}) == 1


def test_times_on_both_sides_of_a_border_of_names_are_one_group() -> None:
    """A name is made from one frame: decision 24 describes what follows."""
    found = frames([8.009, 8.011, 8.009, 8.011])
    assert len({sequence.name for one in found if (sequence := Sequence.of(one))}) == 2
    (group,) = science_groups(found)
    assert len(group.objects) == 4


def test_real_differences_are_groups_of_their_own() -> None:
    times = [120.0, 120.02, 119.0, 120.0]
    assert sorted(len(group.objects) for group in science_groups(frames(times))) == [1, 1, 2]
    assert sorted(len(group.members) for group in calibration_groups(frames(times, OBSTYPE="DARK"))) == [
        1,
        1,
        2,
    ]
    assert len({sequence.name for one in frames(times) if (sequence := Sequence.of(one))}) == 3


def test_the_most_frequent_number_is_nominal() -> None:
    given_frames = frames([5.004, 5.0, 5.0, 8.0])
    nominal = Nominal(given_frames)
    assert [nominal.of(one, ["exposure_time"]) for one in given_frames] == [(5.0,), (5.0,), (5.0,), (8.0,)]


@given(st.lists(st.integers(1000, 1060).map(lambda ms: ms / 1000), min_size=1, max_size=12))
def test_numbers_of_one_group_differ_by_no_more_than_the_tolerance(times: list[float]) -> None:
    given_frames = frames(times)
    nominal = Nominal(given_frames)
    groups: dict[tuple[Any, ...], list[float]] = {}
    for one in given_frames:
        groups.setdefault(nominal.of(one, ["exposure_time"]), []).append(one.exposure_time)
    for (value,), members in groups.items():
        assert value in members
        assert max(members) - min(members) <= TOLERANCE + 1e-9
    firsts = sorted(min(members) for members in groups.values())
    assert all(b - a > TOLERANCE for a, b in pairwise(firsts))


@pytest.mark.parametrize(("other", "alike"), [(120.004, True), (119.991, True), (120.02, False)])
def test_two_frames_are_compared_with_the_tolerance(other: float, alike: bool) -> None:
    one, two = frames([120.0, other])
    assert are_alike(one, two, ["exposure_time", "coadds"]) == alike
    assert not are_alike(one, two, ["started"])


def test_frames_with_one_start_are_noted_together() -> None:
    found = frames([120.0] * 4)
    assert simultaneous(dict(enumerate(found))) == {}
    same = {n: one.model_copy(update={"started": found[0].started}) for n, one in enumerate(found[:3])}
    notes = simultaneous(same | {3: found[3]})
    assert set(notes) == {0, 1, 2}
    assert set(notes.values()) == {
        "3 frames start at 2013-11-21 02:00:00 according to DATE-OBS and UTSTART; their order is that of their names"
    }

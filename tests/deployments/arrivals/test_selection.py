"""The frames of a run, and the current paths of their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from calib_store.model.records import Frame, FrameRecord
from calib_store.store import Store
from deployments.arrivals.selection import (
    calibrations_of_nights,
    doubles_elsewhere,
    files_of,
    frames_of_nights,
    frames_of_sequence,
    limited_to,
)
from deployments.prefect_api.urgency import urgency
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence
from imaging.instruments import catalogue
from tasks.support.references import LeftOut

NIGHT = date(2013, 11, 21)


@pytest.mark.parametrize(
    ("now", "is_tonight"),
    [
        (datetime(2013, 11, 20, 21, 59, tzinfo=UTC), True),  # of a future night
        (datetime(2013, 11, 21, 3, tzinfo=UTC), True),
        (datetime(2013, 11, 21, 14, 30, tzinfo=UTC), True),  # the morning after
        (datetime(2013, 11, 21, 21, 59, 59, tzinfo=UTC), True),
        (datetime(2013, 11, 21, 22, tzinfo=UTC), False),
        (datetime(2013, 12, 21, 3, tzinfo=UTC), False),
    ],
)
def test_frames_are_urgent_until_the_morning_after(now: datetime, is_tonight: bool) -> None:
    assert urgency(NIGHT, "F2", now) == ("tonight" if is_tonight else "backlog")


def test_the_default_time_is_that_of_the_clock() -> None:
    assert urgency(date(2013, 11, 21), "F2") == "backlog"
    assert urgency((datetime.now(UTC) + timedelta(days=1)).date(), "F2") == "tonight"


def test_tonight_is_that_of_the_instruments_site() -> None:
    """After noon in Chile, with 14:00 UT in place of the site's afternoon, the frames of noon were backlog."""
    noon = datetime(2013, 11, 21, 16, tzinfo=UTC)
    night = catalogue.site_of("F2").night_of(noon)
    assert night == NIGHT
    evening = datetime(2013, 11, 21, 21, 30, tzinfo=UTC)
    assert (urgency(night, "F2", evening), urgency(night, "without a table", evening)) == (
        "tonight",
        "backlog",
    )


# Frames in the store


@pytest.fixture
def taken(
    store: Store, record: Callable[..., FrameRecord], facts: Callable[..., FrameFacts]
) -> Callable[..., FrameRecord]:
    """Record a frame some days from the night, by default with its file."""

    def take(name: str, days: float = 0.0, *, exists: bool = True, **changes: Any) -> FrameRecord:
        started = datetime(2013, 11, 21, 3, tzinfo=UTC) + timedelta(days=days)
        one = record(name, facts=facts(name=name, started=started, **changes))
        store.frames.ingest([one])
        if exists:
            one.path.write_text(name)
        return one

    return take


def names(frames: tuple[Frame, ...]) -> list[str]:
    return [frame.name for frame in frames]


def test_frames_are_limited_to_targets_and_to_a_folder(
    store: Store, taken: Callable[..., FrameRecord], tmp_path: Path
) -> None:
    taken("a.fits", target="WISE  J0413")
    taken("b.fits", target="M 42")
    taken("dark.fits", kind="dark")
    found = frames_of_nights(store, NIGHT, NIGHT, 0)
    assert names(limited_to(found, ["wise j0413"], None)) == ["a.fits", "dark.fits"]
    assert names(limited_to(found, [], tmp_path)) == ["a.fits", "b.fits", "dark.fits"]
    assert limited_to(found, [], tmp_path / "elsewhere") == ()


def test_science_of_the_nights_and_calibrations_near_them(
    store: Store, taken: Callable[..., FrameRecord]
) -> None:
    for days in (-20, -10, 0, 1, 11, 20):
        taken(f"science{days}.fits", days)
        taken(f"dark{days}.fits", days, kind="dark")
        taken(f"flat{days}.fits", days, kind="flat")
        taken(f"arc{days}.fits", days, kind="arc")
    found = names(frames_of_nights(store, NIGHT, NIGHT + timedelta(days=1), 10))
    assert [one for one in found if one.startswith("science")] == ["science0.fits", "science1.fits"]
    assert [one for one in found if one.startswith("dark")] == [
        f"dark{days}.fits" for days in (-10, 0, 1, 11)
    ]
    assert len([one for one in found if one.startswith("flat")]) == 4
    assert len(found) == 10
    # The darks and flats of the next day are of the same groups.
    assert names(frames_of_nights(store, NIGHT, NIGHT, 0)) == [
        "science0.fits", "dark0.fits", "flat0.fits", "dark1.fits", "flat1.fits"
    ]  # fmt: skip


def test_a_group_that_reaches_into_the_window_comes_with_all_of_its_frames(
    store: Store, taken: Callable[..., FrameRecord]
) -> None:
    darks = [f"dark{n}.fits" for n in range(10)]
    for n, name in enumerate(darks):
        taken(name, -12 + n * 0.22, kind="dark")
    taken("other.fits", -11, kind="dark", exposure_time=60.0)
    taken("science.fits")
    bad = store.frames.get("dark9.fits")
    assert bad is not None
    store.frames.set_status(bad, "rejected", author="Ana", reason="a light leak")
    for days in (10, 11, 12):
        found = names(frames_of_nights(store, NIGHT, NIGHT, days))
        assert [name for name in found if name.startswith("dark")] == darks
    assert names(frames_of_nights(store, NIGHT, NIGHT, 9)) == ["science.fits"]
    assert "other.fits" not in names(frames_of_nights(store, NIGHT, NIGHT, 10))


def test_a_long_chain_of_darks_is_cut_at_the_same_places_whatever_the_window(
    store: Store, taken: Callable[..., FrameRecord]
) -> None:
    for day in range(-70, 1, 2):
        taken(f"dark{day}.fits", day, kind="dark")
    taken("science.fits")
    complete = {f"dark{day}.fits" for day in range(-6, 1, 2)}
    before = {f"dark{day}.fits" for day in range(-38, -7, 2)}
    assert set(names(frames_of_nights(store, NIGHT, NIGHT, 0))) == complete | {"science.fits"}
    assert set(names(frames_of_nights(store, NIGHT, NIGHT, 6))) == complete | {"science.fits"}
    assert set(names(frames_of_nights(store, NIGHT, NIGHT, 8))) == complete | before | {"science.fits"}


def test_lamp_ons_come_with_their_lamp_offs_from_outside_of_the_window(
    store: Store, taken: Callable[..., FrameRecord]
) -> None:
    taken("science.fits")
    flat = {"kind": "flat", "exposure_time": 20.0}
    for n in range(3):
        taken(f"on{n}.fits", 9, lamp="on", **flat)
        taken(f"off{n}.fits", 40, lamp="off", **flat)
        taken(f"farther{n}.fits", 60, lamp="off", **flat)
    found = names(frames_of_nights(store, NIGHT, NIGHT, 10))
    assert set(found) == {"science.fits", *(f"{lamp}{n}.fits" for lamp in ("on", "off") for n in range(3))}


def test_the_frames_of_a_sequence(
    store: Store, taken: Callable[..., FrameRecord], facts: Callable[..., FrameFacts]
) -> None:
    taken("a.fits", 0.1)
    taken("b.fits", 0.0)
    taken("J.fits", filter="J", filter_id="J_G0802")
    taken("next.fits", 1.0)
    taken("dark.fits", kind="dark")
    taken("acquisition.fits", observation_class="acq")
    sequence = Sequence.of(facts())
    assert sequence is not None
    assert names(frames_of_sequence(store, sequence.name)) == ["b.fits", "a.fits"]
    assert frames_of_sequence(store, "2013-11-21.science.Y.00000000") == ()


def test_a_file_that_was_moved_is_found_where_it_is_now(
    store: Store, taken: Callable[..., FrameRecord], tmp_path: Path
) -> None:
    moved = taken("moved.fits", exists=False)
    here = tmp_path / "z-archive" / "moved.fits"
    here.parent.mkdir()
    here.write_text("moved.fits")
    store.frames.ingest(
        [FrameRecord(here, moved.sha256, moved.size, moved.changed_ns, moved.facts, moved.header)]
    )
    gone, kept = taken("gone.fits", exists=False), taken("kept.fits")
    (tmp_path / "folder.fits").mkdir()
    folder = taken("folder.fits", exists=False)
    paths, left_out = files_of(frames_of_nights(store, NIGHT, NIGHT, 0))
    assert paths == [kept.path, here]
    assert {one.name for one in left_out} == {"gone.fits", "folder.fits"}
    left_out_frame = next(one for one in left_out if one.name == "gone.fits")
    assert left_out_frame.reason == f"its file is missing; it was last seen at {gone.path}"
    assert "mount" in left_out_frame.remedy
    assert folder.path.is_dir()


def test_a_frame_that_was_never_here_is_reported_without_a_path(
    store: Store, facts: Callable[..., FrameFacts]
) -> None:
    store.frames.note([("0" * 64, "S1.fits", facts(name="S1.fits"), None, {})])
    paths, (left_out_frame,) = files_of(frames_of_nights(store, NIGHT, NIGHT, 0))
    assert paths == []
    assert left_out_frame.reason == "its file is missing"


def test_rejected_frames_are_included_for_the_survey_to_report(
    store: Store, taken: Callable[..., FrameRecord]
) -> None:
    bad = taken("bad.fits")
    frame = store.frames.get("bad.fits")
    assert frame is not None
    store.frames.set_status(frame, "rejected", author="Ana", reason="a plane")
    (again,) = frames_of_nights(store, NIGHT, NIGHT, 0)
    assert again.rejected == "a plane"
    assert files_of([again]) == ([bad.path], [])


def test_an_unreadable_frame_belongs_to_its_night_until_a_better_file_replaces_it(
    store: Store, taken: Callable[..., FrameRecord], record: Callable[..., FrameRecord], tmp_path: Path
) -> None:
    taken("good.fits")
    piece = record("S20131121S0099.fits", facts=None, quarantine="truncated")
    other = record("S20131122S0001.fits", facts=None, quarantine="truncated")
    dead = record("dead.fits", quarantine="all pixels have the value 7")
    store.frames.ingest([piece, other, dead])
    for one in (piece, other, dead):
        one.path.touch()
    found = frames_of_nights(store, NIGHT, NIGHT, 0)
    assert set(names(found)) == {"good.fits", "S20131121S0099.fits", "dead.fits"}
    assert len(files_of(found)[0]) == 3
    complete = [
        replace(one, sha256=digit * 64, facts=dead.facts, quarantine=None)
        for one, digit in ((piece, "a"), (dead, "b"))
    ]
    store.frames.ingest(complete)
    found = frames_of_nights(store, NIGHT, NIGHT, 0)
    paths, gone = files_of(found)
    assert {path.name for path in paths} == {"good.fits", "S20131121S0099.fits", "dead.fits"}
    assert gone == []


def test_a_night_without_readable_frames_still_has_frames(
    store: Store, record: Callable[..., FrameRecord]
) -> None:
    store.frames.ingest([record("S20131121S0099.fits", facts=None, quarantine="truncated")])
    assert names(frames_of_nights(store, NIGHT, NIGHT, 0)) == ["S20131121S0099.fits"]
    assert frames_of_nights(store, NIGHT + timedelta(days=1), NIGHT + timedelta(days=1), 0) == ()


def test_an_incomplete_file_replaced_elsewhere_is_not_reported_missing(
    store: Store, record: Callable[..., FrameRecord], tmp_path: Path
) -> None:
    """Compressed, or in another folder: the row of the incomplete file stays, and the file is gone."""
    name = "S20131121S0099.fits"
    store.frames.ingest([record(name, "piece", facts=None, quarantine="truncated")])
    complete = record(name, "complete", path=tmp_path / f"{name}.bz2")
    complete.path.touch()
    store.frames.ingest([complete])
    found = frames_of_nights(store, NIGHT, NIGHT, 0)
    assert [frame.sha256 for frame in found] == [complete.sha256]
    assert files_of(found) == ([complete.path], [])
    assert [frame.sha256 for frame in store.frames.named("S20131121S0099")] == [complete.sha256]


def test_an_exposure_that_a_corrected_header_puts_into_another_sequence_is_used_there(
    store: Store, taken: Callable[..., FrameRecord]
) -> None:
    label = {"data_label": "GS-2013B-Q-15-39-001"}
    first = taken("S20131121S0075.fits", observation_id="A", **label)
    taken("S20131121S0076.fits", 0.01, observation_id="A")
    later = taken("S20131121S0075_fixhead.fits", observation_id="B", **label)

    def of(observation: str) -> tuple[tuple[Frame, ...], dict[str, LeftOut]]:
        (name, *_) = {
            Sequence.of(one.facts).name  # type: ignore[union-attr]
            for one in store.frames.of_nights(NIGHT, NIGHT)
            if one.facts is not None and one.facts.observation_id == observation
        }
        frames = frames_of_sequence(store, name)
        return frames, doubles_elsewhere(store, frames, [NIGHT])

    frames, elsewhere = of("A")
    assert len(frames) == 2
    (left_out_frame,) = elsewhere.values()
    assert (left_out_frame.name, left_out_frame.expected) == ("S20131121S0075.fits", True)
    assert "the same exposure as S20131121S0075_fixhead.fits, which is used" in left_out_frame.reason
    assert [frame.sha256 for frame in of("B")[0]] == [later.sha256]
    assert of("B")[1] == {}
    # Doubles that are both in the run are left to the survey, and a missing file replaces no other.
    assert doubles_elsewhere(store, store.frames.of_nights(NIGHT, NIGHT), [NIGHT]) == {}
    later.path.unlink()
    assert of("A")[1] == {}
    assert first.path.is_file()


def test_a_night_has_the_calibrations_of_the_day_at_its_site(
    store: Store, taken: Callable[..., FrameRecord]
) -> None:
    """15:00 UT is noon in Chile, and of the next night for an instrument without a table."""
    taken("science.fits")
    taken("noon.fits", 0.5, kind="dark", exposure_time=120.0)
    taken("elsewhere.fits", 0.5, instrument="UNKNOWN", kind="object")
    assert names(frames_of_nights(store, NIGHT, NIGHT, 0)) == ["science.fits", "noon.fits"]
    assert names(calibrations_of_nights(store, NIGHT, NIGHT, 0)) == ["noon.fits"]
    assert calibrations_of_nights(store, NIGHT + timedelta(days=1), NIGHT + timedelta(days=1), 0) == ()
    assert names(frames_of_nights(store, NIGHT + timedelta(days=1), NIGHT + timedelta(days=1), 0)) == [
        "elsewhere.fits"
    ]

"""The start of an exposure, from every statement about it: which is used, and which disagreements are noted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from imaging.errors import FrameError
from imaging.frames.facts import FrameFacts, facts_from_headers
from imaging.frames.nights import span_anywhere
from imaging.instruments.catalogue import named
from imaging.instruments.site import Site
from imaging.instruments.time_texts import parse_moment, stated

F2 = named("F2")
CARDS: dict[str, Any] = {
    "INSTRUME": "F2", "OBSTYPE": "OBJECT", "EXPTIME": 120.0, "COADDS": 1, "LNRS": 8, "NREADS": 8,
    "FILTER2": "Y_G0811", "DATE-OBS": "2013-11-21", "UTSTART": "02:52:48.0",
}  # fmt: skip
START = datetime(2013, 11, 21, 2, 52, 48, tzinfo=UTC)
NAME = "S20131121S0075.fits"
#: The Julian date of `START` has few digits, like a rounded one.
SECOND = timedelta(seconds=1)
MJD_ZERO = datetime(1858, 11, 17, tzinfo=UTC)


def facts(name: str = NAME, **cards: Any) -> FrameFacts:
    """Return the facts of a frame; cards with a dash are written with an underscore, None drops one."""
    given_cards = {key.replace("_", "-"): value for key, value in cards.items()}
    return facts_from_headers(
        {k: v for k, v in (CARDS | given_cards).items() if v is not None}, None, name=name
    )


def mjd(moment: datetime) -> float:
    return (moment - MJD_ZERO) / timedelta(days=1)


def single(moment: datetime) -> float:
    """Return a Julian date as frames of 2014 have it: to a tenth of a day, in single precision."""
    return float(np.float32(round(mjd(moment), 1)))


@pytest.mark.parametrize(
    ("cards", "start"),
    [
        ({"DATE_OBS": "2013-11-20T23:52:48-03:00"}, START),
        ({"DATE_OBS": "2013-11-20T23:52:48-03:00", "UTSTART": None}, START),
        ({"DATE_OBS": "2013-11-20T23:52:48-0300", "UTSTART": None}, START),
        ({"DATE_OBS": "2013-11-21T02:52:48Z", "UTSTART": None}, START),
        ({"DATE_OBS": "2013-11-21T02:52:48.0", "UTSTART": None}, START),
        ({"DATE_OBS": "2013-11-21 02:52:48 UTC", "UTSTART": None}, START),
        ({"DATE_OBS": "2013-11-21T00:00:00"}, START),
        ({"DATE_OBS": "2013/11/21", "UTSTART": "2:52:48"}, START),
        ({"DATE_OBS": "20131121", "UTSTART": "02:52:48,0"}, START),
        ({"UTSTART": "23:52:48-03:00", "DATE_OBS": "2013-11-20"}, START),
        ({"UTSTART": "02:51:60"}, START - timedelta(seconds=48)),
        ({"UTSTART": "02:52:60.5"}, START + timedelta(seconds=12.5)),
        ({"DATE_OBS": "2013-11-20T24:00:00", "UTSTART": None}, datetime(2013, 11, 21, tzinfo=UTC)),
        ({"DATE_OBS": "2013-11-20", "UTSTART": "24:00:00"}, datetime(2013, 11, 21, tzinfo=UTC)),
        ({"DATE_OBS": "2013-11-20", "UTSTART": "23:59:60"}, datetime(2013, 11, 21, tzinfo=UTC)),
        ({"UTSTART": None, "TIME_OBS": "02:52:48"}, START),
        ({"DATE_OBS": None, "UTSTART": "2013-11-21T02:52:48"}, START),
    ],
)
def test_forms_of_the_start(cards: dict[str, Any], start: datetime) -> None:
    # A name without a date: nothing else speaks for or against it.
    found = facts("a.fits", **cards)
    assert (found.started, found.notes) == (start, ())


@pytest.mark.parametrize(
    ("text", "day"), [("20131121", date(2013, 11, 21)), ("2013111", None), ("2013-1-2", date(2013, 1, 2))]
)
def test_a_date_without_separators_has_eight_digits(text: str, day: date | None) -> None:
    found = stated(text)
    assert (found and found.date) == day


def test_an_ordinary_evening_is_not_noted() -> None:
    """The file is named after the date of the morning; a Julian date is rounded to hours."""
    evening = datetime(2013, 11, 20, 23, 52, 48, tzinfo=UTC)
    found = facts(DATE_OBS="2013-11-20", UTSTART="23:52:48", MJD_OBS=single(evening))
    assert (found.started, found.night, found.notes) == (evening, date(2013, 11, 21), ())


def test_a_file_named_by_the_ut_date_is_not_noted() -> None:
    found = facts("S20131121S0369.fits", UTSTART="21:36:00")
    assert (found.started.hour, found.night, found.notes) == (21, date(2013, 11, 22), ())


@pytest.mark.parametrize("evidence", [{"MJD_OBS": single(START)}, {"MJD_OBS": mjd(START)}, {}])
def test_a_local_date_with_a_universal_time(evidence: dict[str, float]) -> None:
    found = facts(DATE_OBS="2013-11-20", **evidence)
    assert found.started == START
    others = "MJD-OBS and the date in the file name" if evidence else "the date in the file name"
    assert found.notes == (f"DATE-OBS is the local date; according to {others} the UT date is a day later",)


@pytest.mark.parametrize("value", [single(START), mjd(START)])
def test_a_local_date_without_a_name(value: float) -> None:
    found = facts("a.fits", DATE_OBS="2013-11-20", MJD_OBS=value)
    assert found.started == START
    assert "local date; according to MJD-OBS" in found.notes[0]


def test_a_date_written_after_midnight() -> None:
    """The exposure began a few seconds before the header was written."""
    start = datetime(2013, 11, 20, 23, 59, 50, tzinfo=UTC)
    found = facts("a.fits", DATE_OBS="2013-11-21", UTSTART="23:59:50", MJD_OBS=mjd(start))
    assert found.started == start
    assert found.notes == ("DATE-OBS is another day; according to MJD-OBS the UT date is a day earlier",)
    assert facts("a.fits", DATE_OBS="2013-11-21T00:00:05", UTSTART="23:59:50").started - start <= timedelta(
        minutes=1
    )


def test_a_local_time_next_to_universal_time() -> None:
    found = facts("a.fits", DATE_OBS="2013-11-20T23:52:50")
    assert found.started == START
    assert found.notes == ("DATE-OBS is the local time, UTSTART is UT and is used",)


def test_a_local_time_that_only_an_exact_julian_date_reveals() -> None:
    found = facts(DATE_OBS="2013-11-20T23:52:48", UTSTART=None, MJD_OBS=mjd(START + SECOND))
    assert found.started == START
    assert found.notes == ("DATE-OBS is the local time; according to MJD-OBS UT is used",)


def test_two_times_that_differ() -> None:
    found = facts(DATE_OBS="2013-11-21T01:52:48", MJD_OBS=single(START))
    assert found.started == START
    assert found.notes == ("the time in DATE-OBS is -1 h from that of DATE-OBS + UTSTART, which is used",)


def test_a_time_with_a_zone_is_complete() -> None:
    found = facts(DATE_OBS="2013-11-20T22:52:48-03:00", MJD_OBS=single(START))
    assert found.started == START - timedelta(hours=1)
    assert found.notes == ("UTSTART disagrees with DATE-OBS, which has a time zone and is used",)


@pytest.mark.parametrize("minutes", [-170, -10, -1, 1, 10, 170])
def test_a_julian_date_never_improves_the_time(minutes: float) -> None:
    found = facts(MJD_OBS=float(np.float32(mjd(START + timedelta(minutes=minutes)))))
    assert (found.started, found.notes) == (START, ())


@pytest.mark.parametrize(
    ("name", "cards", "note"),
    [
        (
            "S20131125S0075.fits",
            {},
            "the date in the file name disagrees with DATE-OBS + UTSTART, which is used",
        ),
        (NAME, {"MJD_OBS": 56900.123456}, "MJD-OBS disagrees with DATE-OBS + UTSTART, which is used"),
        (NAME, {"TIME_OBS": "02:52:48", "UTSTART": "late"}, "UTSTART = 'late' is not a time"),
    ],
)
def test_a_disagreement_is_noted(name: str, cards: dict[str, Any], note: str) -> None:
    found = facts(name, **cards)
    assert (found.started, found.notes) == (START, (note,))


def test_a_renamed_copy_of_another_night_is_not_moved_against_the_julian_date() -> None:
    found = facts("S20131122S0001.fits", MJD_OBS=single(START))
    assert found.started == START
    assert found.notes == ("the date in the file name disagrees with DATE-OBS + UTSTART, which is used",)


def test_the_original_name_of_a_product_counts() -> None:
    found = facts("stack.fits", DATE_OBS="2013-11-20", ORIGNAME=NAME, PROCSCI="2026-01-01T00:00:00")
    assert found.started == START


def test_an_exact_julian_date_replaces_a_missing_time() -> None:
    found = facts(UTSTART=None, MJD_OBS=mjd(START + SECOND))
    assert abs(found.started - START - SECOND) < timedelta(milliseconds=1)
    assert found.notes == ("no time of the start: MJD-OBS is used",)
    with pytest.raises(FrameError, match="DATE-OBS"):
        facts(UTSTART=None, MJD_OBS=single(START))


@pytest.mark.parametrize(
    "clock", ["late", "25:00:00", "02:60:00", "02:52:61", "24:00:01", "02:52:48+99:99:99"]
)
def test_a_time_that_is_none_is_refused_with_its_value(clock: str) -> None:
    with pytest.raises(FrameError) as caught:
        facts(UTSTART=clock)
    assert caught.value.keyword == "DATE-OBS + UTSTART"
    assert clock in str(caught.value)
    assert NAME in str(caught.value)
    assert caught.value.remedy


@given(
    st.datetimes(datetime(2005, 1, 1), datetime(2040, 1, 1)), st.integers(-12, 14),
    st.booleans(), st.sampled_from(["none", "single", "double"]),
)  # fmt: skip
def test_a_consistent_header_gives_its_start_without_a_note(
    naive: datetime, offset: int, evening: bool, julian: str
) -> None:
    moment = naive.replace(tzinfo=UTC)
    name = f"S{F2.site.night_of(moment):%Y%m%d}S0001.fits" if evening else "a.fits"
    cards: dict[str, Any] = {"DATE_OBS": f"{moment:%Y-%m-%d}", "UTSTART": f"{moment:%H:%M:%S.%f}"}
    if julian != "none":
        cards["MJD_OBS"] = single(moment) if julian == "single" else mjd(moment)
    found = facts(name, **cards)
    assert (found.started, found.notes) == (moment, ())
    local = moment + timedelta(hours=offset)
    zone = f"{'-' if offset < 0 else '+'}{abs(offset):02d}:00"
    assert facts("a.fits", DATE_OBS=f"{local:%Y-%m-%dT%H:%M:%S.%f}{zone}", UTSTART=None).started == moment


@given(st.datetimes(datetime(2005, 1, 1), datetime(2040, 1, 1)), st.booleans())
def test_a_local_date_is_found_at_any_hour(naive: datetime, julian: bool) -> None:
    moment = naive.replace(tzinfo=UTC)
    local = moment + timedelta(hours=F2.site.utc_offset)
    cards: dict[str, Any] = {"MJD_OBS": single(moment)} if julian else {}
    name = f"S{F2.site.night_of(moment):%Y%m%d}S0001.fits"
    found = facts(name, DATE_OBS=f"{local:%Y-%m-%d}", UTSTART=f"{moment:%H:%M:%S.%f}", **cards)
    assert found.started == moment
    assert bool(found.notes) == (local.date() != moment.date())


@given(
    st.one_of(
        st.text(max_size=40), st.integers(), st.floats(), st.none(), st.from_regex(r"[-0-9T:.Z+ ]{0,32}")
    )
)
def test_any_value_is_a_moment_or_none(value: object) -> None:
    found = parse_moment(value)
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(
    ("utc_offset", "moment", "night"),
    [
        (-3.0, "2014-01-09T15:35:11", "2014-01-09"), (-3.0, "2017-02-20T19:16:54", "2017-02-21"),
        (-10.0, "2014-12-03T23:27:33", "2014-12-03"), (-10.0, "2015-04-05T03:27:35", "2015-04-05"),
        (-10.0, "2009-09-18T07:43:29", "2009-09-18"), (0.0, "2013-11-21T13:59:59", "2013-11-21"),
        (0.0, "2013-11-21T14:00:00", "2013-11-22"),
    ],
)  # fmt: skip
def test_the_date_of_a_night_rolls_over_in_the_afternoon_of_the_site(
    utc_offset: float, moment: str, night: str
) -> None:
    """Times and dates are those of real frames, except the last two."""
    site = Site(utc_offset=utc_offset)
    assert site.night_of(datetime.fromisoformat(moment).replace(tzinfo=UTC)) == date.fromisoformat(night)


@pytest.mark.parametrize("utc_offset", [-14.0, -9.5, -3.0, 0.0, 5.75, 14.0])
@pytest.mark.parametrize("rollover", [0.0, 9.25, 14.0, 23.5])
def test_a_night_begins_with_the_first_moment_that_belongs_to_it(utc_offset: float, rollover: float) -> None:
    site, night = Site(utc_offset=utc_offset, rollover=rollover), date(2013, 11, 21)
    begins, ends = site.validity_of(night, night)
    assert (begins, ends - begins) == (site.begins(night), timedelta(days=1))
    tick = timedelta(microseconds=1)
    assert [site.night_of(one) - night for one in (begins - tick, begins, ends - tick, ends)] == [
        -timedelta(days=1), timedelta(), timedelta(), timedelta(days=1)
    ]  # fmt: skip
    first, last = span_anywhere(night, night)
    assert first <= begins
    assert ends <= last


@pytest.mark.parametrize(
    ("pattern", "problem"), [(r"S\d{8}", "exactly one group"), (r"S(\d{8}", "regular expression")]
)
def test_the_pattern_of_the_date_in_a_name_is_checked(pattern: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Site(name_date=pattern)
    assert Site(name_date=r"S(\d{8})S").date_in("S20131399S0001.fits") is None


@pytest.mark.parametrize(
    "text",
    [
        "21/11/13",
        "11/21/13",
        "21-Nov-2013",
        "2013-21-11",
        "2013-02-29",
        "0000-00-00",
        "2013-11-21_02:52:48",
        "x",
        None,
    ],
)
@pytest.mark.parametrize("evidence", [{"MJD_OBS": single(START)}, {}])
def test_a_date_that_cannot_be_read_is_that_of_the_other_sources(
    text: Any, evidence: dict[str, float]
) -> None:
    found = facts(DATE_OBS=text, **evidence)
    assert found.started == START
    others = "MJD-OBS and the date in the file name" if evidence else "the date in the file name"
    lacking = "no date" if text is None else f"DATE-OBS = {text!r} is not a date"
    assert found.notes == (f"{lacking}; the day is that of {others}",)


def test_a_date_that_nothing_else_states_refuses_the_frame() -> None:
    with pytest.raises(FrameError, match="21/11/13"):
        facts("a.fits", DATE_OBS="21/11/13")


@pytest.mark.parametrize("text", ["2012-11-21", "2038-11-21", "2013-07-11", "2012-11-21T02:52:48"])
def test_two_sources_outvote_a_date(text: str) -> None:
    found = facts(DATE_OBS=text, MJD_OBS=single(START))
    assert found.started == START
    assert found.notes == (
        "DATE-OBS is wrong: according to MJD-OBS and the date in the file name it is 2013-11-21",
    )


@pytest.mark.parametrize(
    ("system", "text"),
    [
        ("TAI", "2013-11-21T02:53:23"), ("TT", "2013-11-21T02:53:55.184"), ("GPS", "2013-11-21T02:53:04"),
        ("tai", "2013-11-21T02:53:23"), ("LOCAL", "2013-11-20T23:52:48"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("clock", ["02:52:48.0", None])
def test_other_time_scales_are_converted(system: str, text: str, clock: str | None) -> None:
    found = facts("a.fits", TIMESYS=system, DATE_OBS=text, UTSTART=clock)
    assert abs(found.started - START) < timedelta(milliseconds=1) or system == "LOCAL"
    assert abs((found.started - START).total_seconds()) % 3600 < 0.001
    assert found.notes[0] == f"DATE-OBS is converted to UTC from TIMESYS = {system.upper()!r}"


def test_an_unknown_time_scale_is_noted() -> None:
    for cards in ({}, {"DATE_OBS": "2013-11-21T02:52:48"}):
        found = facts(TIMESYS="CLT", **cards)
        assert found.started == START
        assert "TIMESYS = 'CLT'" in found.notes[0]
    for system in ("UTC", "UT", "", "utc"):
        assert facts(TIMESYS=system).notes == ()


def test_clocks_that_disagree_are_noted() -> None:
    assert facts(TIME_OBS="02:52:26").notes == ()
    assert facts(TIME_OBS="03:52:48").notes == (
        "TIME-OBS = '03:52:48' disagrees with UTSTART, which is used",
    )
    assert (
        facts("S20131121S0001.fits", UTSTART="23:59:50", TIME_OBS="00:00:10", DATE_OBS="2013-11-20").notes
        == ()
    )


def test_a_single_digit_behind_a_time_is_no_zone() -> None:
    assert facts(UTSTART="02:52:48.-1", TIME_OBS="02:52:48").notes == (
        "UTSTART = '02:52:48.-1' is not a time",
    )


def test_a_pointing_that_no_step_needs_is_ignored() -> None:
    found = facts(OBSTYPE="DARK", POFFSET="x", INPORT=True)
    assert (found.poffset, found.inport) == (0.0, 3)
    assert found.notes[0] == "POFFSET = 'x' is ignored: it does not matter for a dark"
    with pytest.raises(FrameError, match="POFFSET"):
        facts(POFFSET="x")


def test_two_headers_that_disagree_are_noted() -> None:
    found = facts_from_headers(CARDS, {"EXPTIME": 60.0, "COADDS": 1}, name=NAME)
    assert found.exposure_time == 120.0
    assert found.notes == ("EXPTIME = 120.0 is used, though another header of the file has 60.0",)

"""When an exposure began, from everything that its header and its file name state.

A header has the time several times: a date, the time of day, both together, a modified Julian date; the file name
has the date of the night. Each of them may be wrong in its own way: the date may be the local one, the time of day
midnight for want of a better value, the Julian date rounded to hours. They are compared here, and the reading that
is consistent with the others is used.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

from imaging.instruments.site import Site
from imaging.instruments.time_texts import (
    DAY,
    LOCAL_NAMES,
    SCALES,
    UTC_NAMES,
    TimeText,
    ahead_of_utc,
    apart,
    at,
    stated,
    time_of_day,
)

_MJD_ZERO: Final = datetime(1858, 11, 17, tzinfo=UTC)
#: Valid dates of frames: wider than for any instrument, narrow enough for arithmetic and the store.
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2100, 1, 1)
#: Two statements of one start may differ by as much: they are written at different moments.
_SAME: Final = timedelta(minutes=1)
#: Error of a Julian date in single precision or rounded to a tenth of a day, and of a better one.
_COARSE, _FINE = timedelta(days=0.13), timedelta(minutes=15)
#: Clocks of one header differ by less.
_SAME_CLOCK: Final = timedelta(minutes=5)
#: The date in file names changes only about at the hour that the site's table names.
_ROLLOVER_ERROR: Final = timedelta(hours=2)


class Written(NamedTuple):
    """A keyword, and its value as it is in a header."""

    keyword: str
    value: Any


class Start(NamedTuple):
    """The start of an exposure.

    Attributes
    ----------
    moment
        When it began, UTC.
    source
        The keywords that it comes from.
    notes
        Which sources disagree with it, if any.
    """

    moment: datetime
    source: str
    notes: tuple[str, ...] = ()


def exposure_start(
    site: Site,
    dates: Sequence[Written],
    clocks: Sequence[Written],
    *,
    mjd: Sequence[Written] = (),
    ends: Sequence[Written] = (),
    names: Sequence[str] = (),
    exposure: float = 0.0,
    date_only: bool = False,
    system: str = "",
) -> Start | None:
    """Return the start of an exposure.

    Parameters
    ----------
    site
        Time zone of the telescope, and the dates of its nights.
    dates
        Keywords of the date, which may contain the time, and their values.
    clocks
        Keywords of the UT time of day at the start, the first one preferred.
    mjd
        Keywords of the modified Julian date. It decides between days and never improves the time of day.
    ends
        Keywords of the UT time of day at the end, used only if nothing else has a time.
    names
        File names, which may contain the date of the night.
    exposure
        Total exposure, s.
    date_only
        A date without a time is enough: midnight.
    system
        Time scale of a date with a time (TIMESYS); that of the other times is UT by their names.

    Returns
    -------
    Start or None
        None if there is neither a date nor a Julian date, or nothing has a time.
    """
    everything = _Stated(site, dates, clocks, mjd, ends, names, exposure, system)
    start = everything.start()
    if start is None and date_only and everything.date is not None:
        return Start(at(everything.date, timedelta(0)), everything.date_keyword)
    return start


class _Stated:
    """Everything that a header and a file name state about the start of an exposure."""

    def __init__(
        self,
        site: Site,
        dates: Sequence[Written],
        clocks: Sequence[Written],
        mjd: Sequence[Written],
        ends: Sequence[Written],
        names: Sequence[str],
        exposure: float,
        system: str,
    ) -> None:
        self.site = site
        self.zone = timedelta(hours=site.utc_offset)
        self.exposure = timedelta(seconds=exposure)
        found = [(one, _possible(one.value)) for one in dates]
        self.date_keyword: str = ""
        self.dated: TimeText | None = None
        for one, text in found:
            if self.dated is None and text is not None:
                self.date_keyword, self.dated = one.keyword, text
        self.unreadable = next((one for one, text in found if text is None and one.value != ""), None)
        self.date = self.dated.date if self.dated is not None else None
        self.clock_keyword, self.clocked, self.unread = self._clock(clocks)
        self.mjd_keyword, self.mjd, self.mjd_error = self._mjd(mjd)
        self.end_keyword, self.ended, _ = self._clock(ends)
        self._convert(system.strip().upper())
        self.night = next((night for name in names if (night := site.date_in(name)) is not None), None)

    def start(self) -> Start | None:
        """Return the start; None if it is not stated."""
        whole = self.dated.moment if self.dated is not None else None
        clock = self.clocked
        if clock is not None and clock.moment is not None and self.date is None:
            return self._checked(clock.moment, self.clock_keyword)
        if whole is not None and clock is not None and clock.clock is not None:
            return self._of_both(whole, clock)
        if whole is not None:
            return self._of_the_date(whole)
        if self.date is not None and clock is not None and clock.clock is not None:
            moment, notes = self._on_the_day(self.date, clock.clock - (clock.zone or timedelta(0)))
            return self._checked(moment, f"{self.date_keyword} + {self.clock_keyword}", notes)
        if self.date is not None and self.ended is not None and self.ended.clock is not None:
            # The date is that of the start: an exposure over midnight ends on the next day.
            since = self.ended.clock - self.exposure
            moment, notes = self._on_the_day(self.date, since % DAY)
            used = f"{self.end_keyword} minus the exposure is used"
            return self._checked(
                moment, f"{self.date_keyword} + {self.end_keyword}", (*notes, f"no time of the start: {used}")
            )
        if self.date is None and clock is not None and clock.clock is not None:
            elsewhere = self._elsewhere(clock.clock - (clock.zone or timedelta(0)))
            if elsewhere is not None:
                lacking = "no date"
                if self.unreadable is not None:
                    lacking = f"{self.unreadable.keyword} = {self.unreadable.value!r} is not a date"
                note = f"{lacking}; the day is that of {self._others}"
                return self._checked(elsewhere, f"{self._others} + {self.clock_keyword}", (note,))
        if self.mjd is not None and self.mjd_error <= _FINE:
            note = f"no {'time' if self.date else 'date'} of the start: {self.mjd_keyword} is used"
            return Start(self.mjd, self.mjd_keyword, (note,))
        return None

    @property
    def _others(self) -> str:
        """The sources of the day other than a date."""
        return " and ".join(
            [self.mjd_keyword] * (self.mjd is not None)
            + ["the date in the file name"] * (self.night is not None)
        )

    def _elsewhere(self, time: timedelta) -> datetime | None:
        """Return the moment of a UT time of day on the day that all sources other than a date state."""
        near = [self.mjd.date()] if self.mjd is not None else []
        near += [self.night] if self.night is not None else []
        days = sorted({day + n * DAY for day in near for n in (-1, 0, 1)})
        fits = [moment for day in days if not self._contradictions(moment := at(day, time))]
        if len(fits) > 1 and self.night is not None:
            fits = [moment for moment in fits if self.site.night_of(moment) == self.night]
        return fits[0] if len(fits) == 1 else None

    def _convert(self, system: str) -> None:
        """Convert a date with a time to UTC from another time scale."""
        dated = self.dated
        if system in UTC_NAMES or (dated is not None and dated.zone is not None):
            return
        if dated is None or dated.moment is None:  # all times are UT by their names
            if system not in SCALES:
                self.unread.append(f"TIMESYS = {system!r} is ignored: the times are taken as UT")
            return
        if system in SCALES:
            zone = ahead_of_utc(dated.moment, *SCALES[system])
        elif system in LOCAL_NAMES:
            zone = self.zone
        else:
            self.unread.append(
                f"TIMESYS = {system!r} is not a known time scale; {self.date_keyword} is taken as UTC"
            )
            return
        self.unread.append(f"{self.date_keyword} is converted to UTC from TIMESYS = {system!r}")
        self.dated = replace(dated, zone=zone)

    def _of_both(self, whole: datetime, clock: TimeText) -> Start:
        """Return the start from a date with a time and from a time of day."""
        assert self.dated is not None
        assert clock.clock is not None
        time = clock.clock - (clock.zone or timedelta(0))
        days = [at(whole.date(), time) + n * DAY for n in (-1, 0, 1)]
        nearest = min(days, key=lambda moment: abs(moment - whole))
        both = f"{self.date_keyword} + {self.clock_keyword}"
        if abs(nearest - whole) <= _SAME:
            return self._of_the_date(whole)
        if self.dated.zone is not None:
            # A time with its zone is complete; only other evidence speaks against it.
            if self._contradictions(whole) and not self._contradictions(nearest):
                return self._checked(nearest, both, (self._unused(whole, nearest, both),))
            return self._checked(whole, self.date_keyword, (self._unused_clock(time, whole),))
        assert self.date is not None
        for moment in days:
            if self.zone and abs(whole - self.zone - moment) <= _SAME and not self._contradictions(moment):
                note = f"{self.date_keyword} is the local time, {self.clock_keyword} is UT and is used"
                return self._checked(moment, both, (note,))
        moment, notes = self._on_the_day(self.date, time)
        if self.dated.clock:  # midnight stands for a missing time
            notes = (self._unused(whole, moment, both), *notes)
        return self._checked(moment, both, notes)

    def _on_the_day(self, day: date, time: timedelta) -> tuple[datetime, tuple[str, ...]]:
        """Return the moment of a UT time of day on a date that may be the local one, and notes about it."""
        on_date = at(day, time)
        against = self._contradictions(on_date)
        for moment in (on_date + DAY, on_date - DAY) if against else ():
            still_against = self._contradictions(moment)
            is_local = (moment + self.zone).date() == day
            agrees_with_mjd = self.mjd is not None and self.mjd_keyword not in still_against
            if len(still_against) >= len(against) or not (is_local or agrees_with_mjd):
                continue
            what = "the local date" if is_local else "another day"
            others = " and ".join(one for one in against if one not in still_against)
            later = _later(moment, on_date)
            note = f"{self.date_keyword} is {what}; according to {others} the UT date is a day {later}"
            return moment, (note,)
        return self._outvoted(on_date, against)

    def _outvoted(self, on_date: datetime, against: Sequence[str]) -> tuple[datetime, tuple[str, ...]]:
        """Return a moment, on another day if two sources agree that its date is wrong, and notes about it."""
        moment = self._elsewhere(on_date - at(on_date.date(), timedelta(0))) if len(against) > 1 else None
        if moment is None:
            return on_date, ()
        return moment, (f"{self.date_keyword} is wrong: according to {self._others} it is {moment.date()}",)

    def _of_the_date(self, whole: datetime) -> Start:
        """Return the start from a date with its time: UTC, unless it is local according to all other evidence."""
        assert self.dated is not None
        universal = whole - self.zone
        exact = self.mjd is not None and self.mjd_error <= _FINE
        decides = self.dated.zone is None and bool(self.zone) and exact
        if decides and self._contradictions(whole) and not self._contradictions(universal):
            note = f"{self.date_keyword} is the local time; according to {self.mjd_keyword} UT is used"
            return self._checked(universal, self.date_keyword, (note,))
        moment, notes = self._outvoted(whole, self._contradictions(whole))
        return self._checked(moment, self.date_keyword, notes)

    def _checked(self, moment: datetime, source: str, notes: Sequence[str] = ()) -> Start:
        """Return a start with a note about each source that disagrees with it."""
        found = [*self.unread, *notes]
        for text in self._contradictions(moment):
            found.append(f"{text} disagrees with {source}, which is used")
        return Start(moment, source, tuple(found))

    def _contradictions(self, moment: datetime) -> list[str]:
        """Return the sources that exclude a moment."""
        found = []
        if self.mjd is not None:
            middle = moment + self.exposure / 2
            if abs(self.mjd - middle) > self.mjd_error + self.exposure / 2:
                found.append(self.mjd_keyword)
        if self.night is not None:
            near = {self.site.night_of(moment + n * _ROLLOVER_ERROR) for n in (-1, 0, 1)}
            if self.night not in near | {moment.date()}:  # some programs name files by the UT date
                found.append("the date in the file name")
        return found

    def _unused(self, whole: datetime, used: datetime, source: str) -> str:
        hours = (whole - used) / timedelta(hours=1)
        return f"the time in {self.date_keyword} is {hours:+.3g} h from that of {source}, which is used"

    def _unused_clock(self, time: timedelta, used: datetime) -> str:
        return f"{self.clock_keyword} disagrees with {self.date_keyword}, which has a time zone and is used"

    @staticmethod
    def _clock(given: Sequence[Written]) -> tuple[str, TimeText | None, list[str]]:
        """Return the first keyword with a time of day, its text, and notes about those before it."""
        notes: list[str] = []
        used: tuple[str, TimeText] | None = None
        for one in given:
            text = stated(one.value) or time_of_day(one.value)
            if text is None or text.clock is None:
                if used is None and one.value != "":
                    notes.append(f"{one.keyword} = {one.value!r} is not a time")
            elif used is None:
                used = one.keyword, text
            elif apart(text, used[1]) > _SAME_CLOCK:
                notes.append(f"{one.keyword} = {one.value!r} disagrees with {used[0]}, which is used")
        return ("", None, []) if used is None else (*used, notes)

    @staticmethod
    def _mjd(given: Sequence[Written]) -> tuple[str, datetime | None, timedelta]:
        for one in given:
            try:
                days = float(one.value)
            except (TypeError, ValueError, OverflowError):
                continue
            if isinstance(one.value, bool) or not 15_000 < days < 100_000:
                continue
            return one.keyword, _MJD_ZERO + timedelta(days=days), _error_of(days)
        return "", None, timedelta(0)


def _possible(value: object) -> TimeText | None:
    """Return what a text with a date states; None if it has none, or one without digital detectors."""
    text = stated(value)
    possible = text is not None and text.date is not None and FIRST_DAY <= text.date <= LAST_DAY
    return text if possible else None


def _error_of(days: float) -> timedelta:
    """Return the error of a modified Julian date: coarse in single precision or with few digits."""
    single = struct.unpack("f", struct.pack("f", days))[0] == days
    digits = len(repr(days).partition(".")[2])
    return _COARSE if single or digits < 4 else _FINE


def _later(moment: datetime, than: datetime) -> str:
    return "later" if moment > than else "earlier"

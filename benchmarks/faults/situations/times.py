"""Situations of times: three sources in a header, and the one that is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.faults import edit
from benchmarks.faults.laboratory import DARKS, SCIENCE
from benchmarks.faults.outcome import Outcome
from benchmarks.faults.situation import Check, Situation
from imaging.frames.find_files import CheckParameters
from imaging.io.examine import Examination, examine

if TYPE_CHECKING:
    from benchmarks.faults.laboratory import Laboratory

#: Start of the first science frame, in the night's truth.
_BEGIN = datetime(2013, 11, 21, 2, 52, 48, tzinfo=UTC)


def _examined(
    name: str, started: datetime, *, noted: bool | None, clocks: bool = False, **cards: object
) -> Callable[[Laboratory, Path], Sequence[Check]]:
    """Return a trial: the first science frame with other cards, under ``name``, starts at a moment.

    ``clocks`` keeps the cards of the time of day; ``noted`` is whether a note is expected (None: either).
    """

    def trial(lab: Laboratory, folder: Path) -> Sequence[Check]:
        (folder / name).write_bytes((lab.raw / SCIENCE[0]).read_bytes())
        dropped = (
            {} if clocks else {"UTSTART": None, "TIME-OBS": None, "UT": None, "MJD-OBS": None, "UTEND": None}
        )
        edit.values(folder, [name], **(dropped | cards))
        seen = examine(folder / name, CheckParameters(shape=None))
        return _judge(seen, started, noted)

    return trial


def _judge(seen: Examination, started: datetime, noted: bool | None) -> Sequence[Check]:
    if seen.facts is None:
        return (Check(False, f"{seen.verdict}: {seen.reason}"),)
    found = seen.facts.started.astimezone(UTC)
    right = abs(found - started) < timedelta(seconds=1.5)
    checks = [
        Check(
            seen.usable and right, f"starts at {found:%Y-%m-%dT%H:%M:%S}, right {started:%Y-%m-%dT%H:%M:%S}"
        )
    ]
    if noted is not None:
        text = "; ".join(seen.notes)
        checks.append(Check(bool(text) == noted, f"note: {text}" if text else "no note", grave=not noted))
    return checks


def _local_dates(night: Path) -> None:
    """Give the frames before 03:00 UT the date of three hours earlier, as at the site."""
    first = [
        name for number, name in enumerate(SCIENCE) if _BEGIN + number * timedelta(seconds=132) < _midnight()
    ]
    edit.values(night, first, DATE_OBS="2013-11-20")


def _midnight() -> datetime:
    return datetime(2013, 11, 21, 3, 0, 0, tzinfo=UTC)


def _one_night(outcome: Outcome) -> Sequence[Check]:
    return (
        outcome.clean(),
        outcome.count("image", 9),
        outcome.right_figures(),
        outcome.named(SCIENCE[0], "DATE-OBS"),
    )


def _same_start(night: Path) -> None:
    edit.values(night, SCIENCE, UTSTART="02:52:48.000", TIME_OBS="02:52:48.0", UT="02:52:48.0")


def _noted_together(outcome: Outcome) -> Sequence[Check]:
    found = next((line for line in outcome.lines if "same start" in line or "UTSTART" in line), None)
    return (
        outcome.clean(),
        outcome.count("image", 9),
        Check(found is not None, found or "no message about the one UTSTART of all frames", grave=False),
    )


def _milliseconds(night: Path) -> None:
    for number, name in enumerate(SCIENCE):
        edit.values(night, [name], EXPTIME=(120.0, 120.002, 120.004)[number % 3])


def _one_group(outcome: Outcome) -> Sequence[Check]:
    return (outcome.clean(), outcome.count("image", 9), outcome.right_figures())


def _ordinary(outcome: Outcome) -> Sequence[Check]:
    return (
        outcome.clean(),
        *(outcome.quiet(name, "DATE-OBS|UTSTART|MJD|time") for name in (*SCIENCE, *DARKS)),
    )


SITUATIONS: tuple[Situation, ...] = (
    Situation("local-date", "times", "DATE-OBS is the date at the site, UTSTART is UT: 4 of 9 frames a day early",
              "one stack of nine frames; the consistent reading is noted", disturb=_local_dates,
              judge=_one_night),
    Situation("zone", "times", "DATE-OBS = 2013-11-20T23:52:48-03:00, no other time", "converted to UT",
              trial=_examined("S20131121S0075.fits", _BEGIN, noted=None, DATE_OBS="2013-11-20T23:52:48-03:00")),
    Situation("zone-z", "times", "DATE-OBS = 2013-11-21T02:52:48Z, no other time", "read as UT",
              trial=_examined("S20131121S0075.fits", _BEGIN, noted=None, DATE_OBS="2013-11-21T02:52:48Z")),
    Situation("midnight-date", "times", "DATE-OBS = 2013-11-21T00:00:00 with UTSTART = 02:52:48",
              "UTSTART is the time", trial=_examined("S20131121S0075.fits", _BEGIN, noted=None, clocks=True,
                                                     DATE_OBS="2013-11-21T00:00:00")),
    Situation("second-60", "times", "DATE-OBS = 2013-11-21T02:52:60", "the next second",
              trial=_examined("S20131121S0075.fits", _BEGIN + timedelta(seconds=12), noted=None,
                              DATE_OBS="2013-11-21T02:52:60")),
    Situation("hour-24", "times", "DATE-OBS = 2013-11-20, UTSTART = 24:00:00", "the next day",
              trial=_examined("S20131121S0075.fits", datetime(2013, 11, 21, tzinfo=UTC), noted=None,
                              DATE_OBS="2013-11-20", UTSTART="24:00:00")),
    Situation("ordinary-evening", "times", "23:52:48 UT of the 20th in a file named for the 21st", "no alarm",
              trial=_examined("S20131121S0075.fits", datetime(2013, 11, 20, 23, 52, 48, tzinfo=UTC), noted=False,
                              clocks=True, DATE_OBS="2013-11-20", UTSTART="23:52:48.000", TIME_OBS="23:52:48.0",
                              UT="23:52:48.0", MJD_OBS=56616.996)),
    Situation("single-precision-mjd", "times", "MJD-OBS in single precision, minutes off", "no alarm",
              trial=_examined("S20131121S0075.fits", _BEGIN, noted=False, clocks=True)),
    Situation("ordinary-night", "times", "the untouched night", "no alarm about any time", judge=_ordinary),
    Situation("one-start", "times", "every science frame with one UTSTART", "noted", disturb=_same_start,
              judge=_noted_together),
    Situation("exposure-times-4-ms-apart", "times", "EXPTIME of 120, 120.002 and 120.004 s in one sequence",
              "one stack", disturb=_milliseconds, judge=_one_group),
)  # fmt: skip

"""The facts that an archive has of a file, compared with those that are read from its headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from benchmarks.headers.explained import explanation
from benchmarks.headers.places import Seen, position_at, separation
from imaging.instruments import catalogue
from imaging.instruments.sections import bounds
from imaging.io.examine import Examination

#: Largest difference of positions (arcsec), times (s) and exposure times (s) that agree.
_POSITION: Final = 1.0
_TIME: Final = 0.1
_EXPOSURE: Final = 0.01
_AIRMASS: Final = 0.001
#: The archive's decision on a frame, by the observer's judgement in the header.
_QUALITY: Final = {
    "BAD": ("Fail",), "FAIL": ("Fail",), "USABLE": ("Pass", "Usable"), "UNKNOWN": ("Undefined",),
}  # fmt: skip
#: Kinds by the end of a type in the archive's list.
_TYPES: Final = (("DARK", "dark"), ("FLAT", "flat"), ("ARC", "arc"), ("BPM", "bpm"))
#: The pixel to which the archive's positions refer, counted from 1, where it is not the middle of the image: the same
#: in all headers, but for a pixel.
_REFERENCE_PIXEL: Final = {"F2": (1034.5, 1054.5)}
#: Sections in the archive's terms.
_FULL: Final = ("Full Frame", "Fixed")


@dataclass(frozen=True)
class Compared:
    """One fact of one file.

    Attributes
    ----------
    file, fact
        What was compared.
    ours, archive
        Both values, as texts.
    agrees
        Whether they agree.
    why
        Why they differ, if that is understood.
    """

    file: str
    fact: str
    ours: str
    archive: str
    agrees: bool
    why: str = ""

    @property
    def unexplained(self) -> bool:
        """Whether they differ and nobody knows why."""
        return not self.agrees and not self.why


def compare(seen: Seen) -> Iterator[Compared]:
    """Yield the comparison of every fact that the archive has of a file; first whether it can be reduced."""
    record, name = seen.file.record, seen.file.name
    expected, found = expected_fate(record), fate(seen.examined)
    yield Compared(
        name, "fate", found, expected, found == expected, explanation("fate", seen, found, expected)
    )
    if seen.examined.facts is None:
        return
    for fact, (key, ours, agree) in _FACTS.items():
        theirs = record.get(key)
        if theirs is not None and fact in _DERIVED:
            theirs = _DERIVED[fact](record)
        mine = ours(seen)
        if theirs is None or mine is None:
            continue
        agrees = agree(mine, theirs)
        why = "" if agrees else explanation(fact, seen, mine, theirs)
        yield Compared(name, fact, str(mine), str(theirs), agrees, why)


def fate(examined: Examination) -> str:
    """Return what becomes of a file, in one or two terms."""
    reason = examined.reason
    for part in (
        "no table describes",
        "spectroscopy",
        "an arc",
        "an acquisition",
        "a failure",
        "first frame of",
    ):
        if part in reason:
            return f"{examined.verdict}: {part}"
    return examined.verdict if examined.usable else f"{examined.verdict}: {reason}"


def expected_fate(record: Mapping[str, Any]) -> str:
    """Return what should become of a file, by the archive's record alone."""
    if record["instrument"] not in catalogue.header_names():
        return "foreign: no table describes"
    kind = kind_of(record)
    if record.get("spectroscopy") and kind in ("object", "flat"):
        return "excluded: spectroscopy"
    if kind == "arc":
        return "excluded: an arc"
    if record.get("qa_state") == "Fail":
        return "excluded: a failure"
    if record.get("observation_class") in ("acq", "acqCal"):
        return "excluded: an acquisition"
    return "usable"


def kind_of(record: Mapping[str, Any]) -> str:
    """Return the kind of a frame by the archive's types; a flat of a dome has the observation type OBJECT."""
    types = [part.strip(" '\"") for part in str(record.get("types") or "").strip("[]{}").split(",")]
    for end, kind in _TYPES:
        if any(one == end or one.endswith((f"_{end}", f"DOME{end}", f"GCAL{end}")) for one in types):
            return kind
    return str(record["observation_type"]).lower()


def _same(mine: Any, theirs: Any) -> bool:
    return str(mine) == str(theirs)


def _near(limit: float) -> Callable[[Any, Any], bool]:
    return lambda mine, theirs: abs(float(mine) - float(theirs)) <= limit


def _same_time(mine: datetime, theirs: str) -> bool:
    given = datetime.fromisoformat(theirs).replace(tzinfo=mine.tzinfo)
    return abs((mine - given).total_seconds()) <= _TIME


def _lamp(seen: Seen) -> str | None:
    return seen.facts.lamp


def _same_lamp(mine: str, theirs: str) -> bool:
    return (mine == "off") == (theirs == "Off")


def _position(seen: Seen) -> float | None:
    """Return how far the middle of the image is from the archive's position, arcsec."""
    record = seen.file.record
    if record.get("dec") is None:
        return None
    place = position_at(seen.headers[1], _REFERENCE_PIXEL.get(seen.facts.instrument))
    if place is None and seen.facts.ra is not None and seen.facts.dec is not None:
        place = seen.facts.ra, seen.facts.dec
    return None if place is None else separation(place, (record["ra"], record["dec"]))


def _spectroscopy(seen: Seen) -> bool | None:
    return seen.facts.spectroscopic if seen.facts.kind != "dark" else None


def _read_mode(seen: Seen) -> str:
    return str(seen.facts.value("readout_mode") or seen.facts.read_pairs)


def _camera(seen: Seen) -> str | None:
    table = seen.facts.table
    stop = seen.facts.value("camera") or seen.facts.value("lyot")
    return None if stop is None else table.without_component(str(stop))


def _section(seen: Seen) -> str:
    section, table = seen.facts.section, seen.facts.table
    if section == table.section:
        return _FULL[0]
    found = bounds(section)
    if found is None:
        return section
    columns, rows = found[1] - found[0] + 1, found[3] - found[2] + 1
    middle = (found[0] + found[1], found[2] + found[3]) == (
        table.detector.shape[1] + 1,
        table.detector.shape[0] + 1,
    )
    return f"Central{columns}" if middle and columns == rows else section


def _same_section(mine: str, theirs: str) -> bool:
    return mine == theirs or (mine in _FULL and theirs in _FULL)


#: The value of a fact in an archive's record, where it is not one field of it.
_DERIVED: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "kind": kind_of, "position, arcsec off": lambda record: 0.0,
}  # fmt: skip
#: Fact: the archive's name of it, ours, and whether two values agree.
_FACTS: Final[Mapping[str, tuple[str, Callable[[Seen], Any], Callable[[Any, Any], bool]]]] = {
    "instrument": ("instrument", lambda seen: seen.facts.instrument, _same),
    "kind": ("types", lambda seen: seen.facts.kind, _same),
    "class": ("observation_class", lambda seen: seen.facts.observation_class, _same),
    "spectroscopy": ("spectroscopy", _spectroscopy, _same),
    "filter": ("filter_name", lambda seen: seen.facts.filter, _same),
    "exposure, s": ("exposure_time", lambda seen: seen.facts.exposure, _near(_EXPOSURE)),
    "coadds": ("coadds", lambda seen: seen.facts.coadds, _same),
    "disperser": ("disperser", lambda seen: seen.facts.disperser, _same),
    "camera": ("camera", _camera, _same),
    "focal-plane mask": ("focal_plane_mask", lambda seen: seen.facts.focal_mask, _same),
    "target": ("object", lambda seen: seen.facts.target, _same),
    "lamp": ("gcal_lamp", _lamp, _same_lamp),
    "read mode": ("detector_readmode_setting", _read_mode, _same),
    "well depth": ("detector_welldepth_setting", lambda seen: seen.facts.value("well_depth"), _same),
    "section": ("detector_roi_setting", _section, _same_section),
    "binning": ("detector_binning", lambda seen: seen.facts.binning, _same),
    "start": ("ut_datetime", lambda seen: seen.facts.started, _same_time),
    "position, arcsec off": ("ra", _position, lambda mine, _: mine <= _POSITION),
    "airmass": ("airmass", lambda seen: seen.facts.airmass, _near(_AIRMASS)),
    "quality": (
        "qa_state", lambda seen: seen.facts.quality, lambda mine, theirs: theirs in _QUALITY.get(mine.upper(), ())
    ),
    "data label": ("data_label", lambda seen: seen.facts.data_label, _same),
    "observation": ("observation_id", lambda seen: seen.facts.observation_id, _same),
    "program": ("program_id", lambda seen: seen.facts.program, _same),
}  # fmt: skip

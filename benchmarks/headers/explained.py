"""The differences between what is read from headers and an archive's record that are understood, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from benchmarks.headers.places import Seen, position_at, separation
from imaging.pixels.wcs import wcs_problem

#: Whether an explanation fits: file, our value, the archive's.
Fits = Callable[[Seen, Any, Any], bool]
#: Longest time between the command of an exposure (UT) and its start (UTSTART).
_SETUP: Final = timedelta(seconds=30)
#: Largest distance of one place (arcsec), of a place within a field, and of one far outside.
_SAME_PLACE: Final = 0.1
_NEAR_THE_MIDDLE: Final = 10.0
_FAR: Final = 100.0


def _exposure_starts_later(seen: Seen, ours: datetime, archive: str) -> bool:
    primary = seen.headers[0]
    commanded = datetime.fromisoformat(archive).replace(tzinfo=ours.tzinfo)
    day, clock = str(primary.get("DATE-OBS")), primary.get("UT")
    if clock is None or "UTSTART" not in primary:
        return False
    stated = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=ours.tzinfo)
    return stated == commanded and timedelta(0) < ours - commanded < _SETUP


def _from_a_corrupt_matrix(seen: Seen, ours: float, archive: float) -> bool:
    """Return whether the archive has the position of the reference pixel in the corrupt world coordinates."""
    image = seen.file.headers()[1]
    there = wcs_problem(image) or ""
    primary = seen.file.headers()[0]
    return "is singular" in there and wcs_problem(primary) == "" and ours < _NEAR_THE_MIDDLE


def _of_the_reference_pixel(seen: Seen, ours: float, archive: float) -> bool:
    record, image = seen.file.record, seen.headers[1]
    there = (float(image["CRVAL1"]), float(image["CRVAL2"]))
    return separation(there, (record["ra"], record["dec"])) < _SAME_PLACE


def _header_agrees_with_its_offsets(seen: Seen, ours: float, archive: float) -> bool:
    """Return whether the world coordinates are at the target plus large offsets, unlike the archive's position."""
    primary, facts = seen.headers[0], seen.facts
    if facts.ra is None or facts.dec is None:
        return False
    east, north = (float(primary.get(keyword) or 0.0) for keyword in ("RAOFFSET", "DECOFFSE"))
    if math.hypot(east, north) < _FAR:
        return False
    expected = (facts.ra + east / 3600 / math.cos(math.radians(facts.dec)), facts.dec + north / 3600)
    here = position_at(seen.headers[1])
    return here is not None and separation(here, expected) < _FAR / 2


def _names_without_its_own(seen: Seen, ours: str, archive: str) -> bool:
    return seen.facts.table.without_component(archive) == ours


#: By fact: why, and for which files and values.
EXPLAINED: Final[Mapping[str, tuple[tuple[str, Fits], ...]]] = {
    "fate": (
        (
            "the first frame of an observation is bad and left out by default; the archive does not mark it",
            lambda seen, ours, archive: ours == "excluded: first frame of" and archive == "usable",
        ),
        (
            "the text in the filter's keyword is an error of the controller, so the filter is unknown",
            lambda seen, ours, archive: "expected the name of a filter" in ours and "Timed Out" in ours,
        ),
    ),
    "filter": (
        (
            "a closed wheel position makes the frame a dark; the filter of the other wheel is kept in its name",
            lambda seen, ours, archive: (
                archive == "dark" and ours.endswith("DK") and seen.facts.kind == "dark"
            ),
        ),
        (
            "since 2022 the wheel of Lyot stops may hold the filter, which the archive lists as the camera",
            lambda seen, ours, archive: archive == "open" and ours == seen.file.record.get("camera"),
        ),
        (
            "the archive lists the two filters of the pair in a file with another spelling of one of them",
            lambda seen, ours, archive: ours.startswith("H2_") and "&K" in archive,
        ),
    ),
    "disperser": (
        (
            "no grism: both mean imaging",
            lambda seen, ours, archive: (ours, archive) == ("Open", "MIRROR"),
        ),
        ("the archive keeps the component's id in some records", _names_without_its_own),
    ),
    "camera": (
        (
            "f/13.9 is the f/14 camera, whose scale it has",
            lambda seen, ours, archive: (ours, archive) == ("f14", "f13.9"),
        ),
    ),
    "focal-plane mask": (
        (
            "the archive has the position of the wheel, the header also the name of the mask in it: flats of different "
            "masks are kept apart",
            lambda seen, ours, archive: (
                seen.headers[0].get("MOSPOS") == archive and seen.headers[0].get("MASKNAME") == ours
            ),
        ),
    ),
    "position, arcsec off": (
        (
            "the world coordinates of the image are corrupt, and the archive's position is computed from them; those "
            "of the primary header are used",
            _from_a_corrupt_matrix,
        ),
        (
            "of a part of the detector the archive has the position of the reference pixel",
            _of_the_reference_pixel,
        ),
        (
            "the archive's right ascension is 800 arcsec from the world coordinates of the file, which are at the "
            "target plus the offsets of the telescope",
            _header_agrees_with_its_offsets,
        ),
    ),
    "start": (
        (
            "UTSTART, the start of the exposure, is up to 30 s after UT, that of the observation, which the archive "
            "has",
            _exposure_starts_later,
        ),
    ),
}


def explanation(fact: str, seen: Seen, ours: Any, archive: Any) -> str:
    """Return why two values of a fact differ; an empty text if that is not understood."""
    return next((why for why, fits in EXPLAINED.get(fact, ()) if fits(seen, ours, archive)), "")

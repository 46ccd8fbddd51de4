"""Headers of raw frames written from an instrument's table: its keywords, with values from which it reads the facts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from astropy.io import fits

from imaging.instruments.instrument import Choice, Fact, Instrument
from imaging.instruments.sections import bounds
from imaging.simulator.plans.field import FIELD, TARGET
from imaging.simulator.plans.frame import DARKS, PlannedFrame, Role, Written, on_sky
from imaging.simulator.plans.plan_model import Headers, Plan

_MJD_EPOCH: Final = datetime(1858, 11, 17, tzinfo=UTC)
#: What replaces the rest of a pattern: IR* becomes IRhigh.
_REST: Final = "high"
_SEQUENCES: Final[Mapping[Role, int]] = {
    "science": 39, "dark": 1, "short_dark": 2, "flat_dark": 3, "lamp_on": 4, "lamp_off": 5,
}  # fmt: skip
_PROBE_PARKED: Final = "parked"


def raw_headers(plan: Plan, night: Written, frame: PlannedFrame) -> Headers:
    """Return the primary header and that of the image of one raw frame.

    Both have the world coordinates, so that North is where the table's offsets put it.
    """
    table = night.camera.instrument
    primary = fits.Header()
    primary["SIMPLE"] = (True, "conforms to FITS standard")
    primary["BITPIX"], primary["NAXIS"], primary["EXTEND"] = 8, 0, True
    primary["INSTRUME"] = (table.name, "Instrument used to acquire data")
    image: dict[str, Any] = {}
    facts = frame_facts(plan, night, frame)
    for cards in (
        _of_facts(plan, table, facts, image),
        _of_kind(table, frame, night.defaults.filter_id),
        _of_guiding(table, frame),
        _of_time(table, frame),
    ):
        primary.update(cards)
    for keyword, value, comment in plan.cards(night, frame):
        primary[keyword] = (value, comment)
    primary["OBSERVER"] = ("nirflow simulator", "Observer")
    primary["SIMSEED"] = (night.seed, "Simulated frame: seed of its night")
    world = _world(night, frame)
    primary.update(world)
    extension = fits.Header()
    extension.update(world | image)
    return primary, extension


def frame_facts(plan: Plan, night: Written, frame: PlannedFrame) -> dict[str, Any]:
    """Return the facts of a frame that its header has to give."""
    science, dark = frame.role == "science", frame.role in DARKS
    year, date = frame.file_date[:4], frame.file_date
    program = f"SIM-{year}A-Q-15" if science else f"SIM-CAL{date}"
    observation = f"{program}-{_SEQUENCES[frame.role]}"
    facts: dict[str, Any] = {
        "observation_class": "science" if science else "dayCal" if dark else "partnerCal",
        "target": TARGET if science else "Dark" if dark else "GCALflat",
        "exposure_time": frame.exposure_time, "coadds": frame.coadds, "read_pairs": frame.read_pairs,
        "ra": FIELD[0] if science else 0.0, "dec": FIELD[1] if science else 0.0,
        "poffset": frame.offset[0], "qoffset": frame.offset[1], "pa": frame.rotation, "inport": 3,
        "airmass": round(1.05 + 0.002 * frame.number, 4) if science else 1.0,
        "program": program, "observation_id": observation, "data_label": f"{observation}-{frame.number + 1:03d}",
        "quality": "USABLE", "image_quality": "70-percentile",
    }  # fmt: skip
    return facts | dict(night.camera.facts)


def _of_facts(
    plan: Plan, table: Instrument, facts: Mapping[str, Any], image: dict[str, Any]
) -> dict[str, Any]:
    """Return the cards of facts for the primary header; those of the image are added to ``image``."""
    primary: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for name, spec in table.facts.items():
        cards = image if spec.extension else primary
        if spec.choices:
            chosen |= _choice(spec, facts.get(name))
        elif name not in facts:
            if spec.default is None and name != "section":
                cards[spec.keywords[0]] = "unknown" if spec.type == "text" else 1
        elif spec.levels:
            low, high = spec.levels[facts[name]]
            reference = plan.reference.get(name, 0.0)
            cards[spec.keywords[0]] = round(reference + (low + high) / 2, 4)
            if spec.minus:
                cards[spec.minus[0]] = reference
        elif spec.corners is not None:
            edges = bounds(facts[name])
            assert edges is not None
            shift = spec.corners.first - 1
            cards |= dict(zip(spec.keywords, (edge + shift for edge in edges), strict=True))
        else:
            cards[spec.keywords[0]] = facts[name]
    return primary | chosen


def _choice(spec: Fact, value: Any) -> dict[str, Any]:
    """Return the cards for which a table chooses a value; none for its default."""
    for choice in spec.choices:
        if choice.value is not None and choice.value == value:
            return {keyword: _plain(patterns[0]) for keyword, patterns in choice.when.items()}
    return {}


def _plain(pattern: str) -> str | int:
    """Return a value that a pattern matches."""
    text = pattern.replace("*", _REST).replace("?", "0")
    return int(text) if re.fullmatch(r"\d+", text) else text


def _of_kind(table: Instrument, frame: PlannedFrame, filter_id: str) -> dict[str, Any]:
    """Return the cards of the kind, of the lamp and of the wheels."""
    kind = "object" if frame.role == "science" else "dark" if frame.role in DARKS else "flat"
    cards: dict[str, Any] = {}
    for rule in reversed([choice for choice in table.kinds if choice.value == kind]):
        cards |= {
            keyword: _plain(patterns[0]) for keyword, patterns in rule.when.items() if keyword.isupper()
        }
        filter_id = str(_plain(rule.when["filter_id"][0])) if "filter_id" in rule.when else filter_id
    if kind == "dark":
        filter_id = next((str(_plain(one.strip("*"))) for one in table.unfit.dark_filters), filter_id)
    if kind == "flat":
        for state in ("on", "off") if frame.role == "lamp_off" else ("on",):
            cards |= _lamp(table.lamp, state)
    for i, wheel in enumerate(table.wheels):
        cards[wheel.keywords[0]] = filter_id if i == 0 else "open"
    return cards


def _lamp(choices: tuple[Choice, ...], state: str) -> dict[str, Any]:
    rule = next((choice for choice in choices if choice.value == state), None)
    return {} if rule is None else {keyword: _plain(patterns[0]) for keyword, patterns in rule.when.items()}


def _of_guiding(table: Instrument, frame: PlannedFrame) -> dict[str, Any]:
    if table.guiding is None:
        return {}
    cards: dict[str, Any] = dict.fromkeys(table.guiding.keywords, _PROBE_PARKED)
    if frame.role == "science":
        others = [one for one in table.guiding.keywords if one != table.guiding.peripheral]
        cards[others[-1]] = table.guiding.state
    return cards


def _of_time(table: Instrument, frame: PlannedFrame) -> dict[str, Any]:
    ended = frame.started + timedelta(seconds=math.ceil(frame.exposure_time * frame.coadds) + 1)
    day, clock = frame.started.date().isoformat(), f"{frame.started:%H:%M:%S}.0"
    cards: dict[str, Any] = {"DATE": day, "TIMESYS": "UTC"}
    cards |= dict.fromkeys(table.date, day) | dict.fromkeys(table.time, clock)
    cards |= dict.fromkeys(table.end, f"{ended:%H:%M:%S}.0")
    cards[table.mjd[0]] = (frame.started - _MJD_EPOCH) / timedelta(days=1)
    return cards


def _world(night: Written, frame: PlannedFrame) -> dict[str, Any]:
    """Return the cards of the world coordinates."""
    axes, middle = night.camera.axes, (night.size + 1) / 2
    east, north = on_sky(frame.wcs, frame.rotation)
    step = axes.scale / 3600.0
    matrix = []
    for x, y in ((1.0, 0.0), (0.0, 1.0)):
        matrix.append(on_sky(axes.on_sky(step * x, step * y), frame.rotation))
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": middle, "CRPIX2": middle,
        "CRVAL1": FIELD[0] + east / 3600.0 / math.cos(math.radians(FIELD[1])), "CRVAL2": FIELD[1] + north / 3600.0,
        "CD1_1": matrix[0][0], "CD1_2": matrix[1][0], "CD2_1": matrix[0][1], "CD2_2": matrix[1][1],
        "EQUINOX": 2000.0,
    }  # fmt: skip

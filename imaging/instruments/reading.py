"""The facts of a frame, read from its headers with its instrument's table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from imaging.errors import FrameError
from imaging.instruments import catalogue
from imaging.instruments.conversions import optional_angle
from imaging.instruments.exposure_start import FIRST_DAY, LAST_DAY, Start, Written, exposure_start
from imaging.instruments.header_rules import fits
from imaging.instruments.instrument import COMMON, Choice, Fact, Instrument, Value
from imaging.instruments.keywords import Header, Keywords
from imaging.instruments.sections import section_of_pixels
from imaging.instruments.time_texts import parse_moment
from imaging.kinds import FrameKind

#: What a published bad pixel mask of an observatory may lack in its header.
_OF_A_MASK: Final[Mapping[str, Value]] = {"coadds": 1, "read_pairs": 1}
#: Keyword of the section in our products, whose headers may lack those of the raw frames.
_OF_A_PRODUCT: Final = "DETSEC"
#: Facts that only frames of the sky need.
_POINTING: Final = ("poffset", "qoffset", "pa", "inport")
#: Facts that may be sexagesimal texts.
_ANGLES: Final = ("ra", "dec")


def instrument_of(primary: Header, name: str) -> Instrument:
    """Return the instrument that a header names.

    Raises
    ------
    FrameError
        If no table describes it; the error names the known instruments.
    """
    instrument = catalogue.by_header(primary)
    if instrument is None:
        found = Keywords(primary, name).found("INSTRUME")
        if found is None:
            raise FrameError(
                name, "keyword is missing", keyword="INSTRUME", found=found,
                expected=" or ".join(repr(one) for one in catalogue.header_names()),
                remedy="Leave the file out, or write a table of the instrument, with the keyword that has its name "
                "(named_by): nirflow instruments new --from FILE.",
            )  # fmt: skip
        raise FrameError(
            name, "the frame of an instrument that no table describes", keyword="INSTRUME", found=found,
            expected=" or ".join(repr(one) for one in catalogue.header_names()),
            remedy="Leave the file out, or write a table of the instrument: nirflow instruments new --from FILE.",
        )  # fmt: skip
    return instrument


def facts_in(
    instrument: Instrument,
    primary: Header,
    extension: Header | None,
    name: str,
    *,
    kind: FrameKind | None = None,
    resampled: bool = False,
) -> dict[str, Any]:
    """Read the facts that a table defines.

    Parameters
    ----------
    instrument
        The table.
    primary, extension
        Primary header, and header of the image if it has one.
    name
        The file's name, for errors.
    kind
        Kind of the file, whatever its keywords are; default: by its keywords.
    resampled
        The pixels are not those of the detector (a stack): their number does not give its section.

    Returns
    -------
    dict
        Fact to value, as `imaging.frames.facts.FrameFacts` has them.

    Raises
    ------
    FrameError
        If a keyword is missing or invalid, or the detector has no numbers for the frame.
    """
    keys = Keywords(primary, name)
    facts: dict[str, Any] = {"instrument": instrument.name}
    facts["filter_id"] = filters_in(instrument, keys)
    facts["filter"] = instrument.filter_of(facts["filter_id"])
    facts["kind"] = kind or _kind(instrument, keys, facts)
    is_mask = facts["kind"] == "bpm"
    for fact in instrument.fact_names:
        if is_mask and fact in _OF_A_MASK:
            facts[fact] = _OF_A_MASK[fact]
            continue
        try:
            facts[fact] = value_of(instrument, fact, keys, extension or {}, mask=is_mask)
        except FrameError as error:
            if facts["kind"] == "object" or fact not in _POINTING:
                raise
            facts[fact] = COMMON[fact][1]
            keys.notes.append(
                f"{error.keyword} = {error.found!r} is ignored: it does not matter for a {facts['kind']}"
            )
    keys.notes += _contradictions(instrument, primary, extension or {})
    if not resampled:
        facts["section"] = section_of_pixels(facts["section"], facts.get("binning", "1x1"), extension or {})
    facts = instrument.offsets.with_offsets(facts) | _guiding(instrument, keys)
    start = _start(instrument, keys, facts)
    facts["started"] = start.moment
    quirks = catalogue.quirks_of(instrument)
    if quirks is not None:
        facts = _with_quirks(instrument, quirks, keys, facts)
    _check_numbers(instrument, keys, facts)
    if not is_mask:
        keys.notes += instrument.detector.notes(facts)
    facts["header_notes"] = tuple(dict.fromkeys((*keys.notes, *start.notes)))
    return facts


def _with_quirks(
    instrument: Instrument, quirks: catalogue.Quirks, keys: Keywords, facts: dict[str, Any]
) -> dict[str, Any]:
    """Return the facts after the function of a table; whatever it raises concerns this frame only."""
    remedy = (
        f"Correct the function {instrument.quirks}, which the table of {instrument.name} names, or omit it."
    )
    try:
        found = quirks(keys, dict(facts))
    except FrameError:
        raise
    except (Exception, SystemExit) as error:
        problem = f"{type(error).__name__}: {error}".rstrip(".: ")
        raise FrameError(keys.name, f"the quirks failed with {problem}", remedy=remedy) from error
    if not isinstance(found, dict) or (lost := sorted(facts.keys() - found.keys())):
        what = f"the facts without {', '.join(lost)}" if isinstance(found, dict) else type(found).__name__
        raise FrameError(keys.name, f"the quirks returned {what}, expected all facts", remedy=remedy)
    return found


def _contradictions(instrument: Instrument, primary: Header, extension: Header) -> list[str]:
    """Return notes about keywords of facts to which the header of the image gives another value."""
    found = []
    for spec in instrument.facts.values():
        first, second = (extension, primary) if spec.extension else (primary, extension)
        for keyword in spec.keywords:
            used, other = first.get(keyword), second.get(keyword)
            if used is not None and other is not None and used != other:
                found.append(f"{keyword} = {used!r} is used, though another header of the file has {other!r}")
    return found


def _check_numbers(instrument: Instrument, keys: Keywords, facts: Mapping[str, Any]) -> None:
    """Refuse a frame with a read mode for which the detector has no numbers."""
    lacking = instrument.detector.missing(facts)
    if lacking is None:
        return
    number, known = lacking
    found: object = ", ".join(str(facts.get(fact)) for fact in known)
    expected = "; ".join(f"one of {', '.join(map(str, values))}" for values in known.values())
    if len(known) == 1:
        found = facts.get(next(iter(known)))
    else:
        expected += f" (the table of {instrument.name} has no {number.replace('_', ' ')} for these together)"
    raise keys.error(" + ".join(instrument.keyword(fact) for fact in known), found, expected)


def lamp_in(instrument: Instrument, primary: Header, facts: Mapping[str, Any]) -> str | None:
    """Return whether the lamp was on or off; None if unknown."""
    return _chosen(instrument.lamp, Keywords(primary, ""), facts)


def value_of(
    instrument: Instrument, fact: str, keys: Keywords, extension: Header, *, mask: bool = False
) -> Any:
    """Read one fact.

    Raises
    ------
    FrameError
        If its keyword is missing and has no default, or is invalid.
    """
    spec = instrument.facts.get(fact)
    if spec is None:
        return _without_keyword(instrument, fact)
    if spec.extension:
        keys = Keywords(extension, keys.name)
    keyword = next((one for one in spec.keywords if keys.found(one) is not None), spec.keywords[0])
    if fact == "exposure_time":
        return _exposure_time(keys, keyword, spec, mask=mask)
    if spec.corners is not None:
        stated = spec.section(keys, spec.keywords, instrument.detector.shape)
        return keys.text(_OF_A_PRODUCT, instrument.section) if stated is None else stated
    if fact == "section" and spec.default is None:
        return _first_text(keys, spec.keywords, instrument.section, compared=True)
    return _read(keys, keyword, fact, spec, instrument)


def _without_keyword(instrument: Instrument, fact: str) -> Any:
    if fact == "detector":
        return instrument.name
    if fact == "section":
        return instrument.section
    type_, default = COMMON[fact]
    return None if type_ == "optional" else default


def _read(keys: Keywords, keyword: str, fact: str, spec: Fact, instrument: Instrument) -> Any:
    type_ = instrument.type_of(fact)
    low, high = spec.range or (-math.inf, math.inf)
    if type_ == "optional":
        number = (
            optional_angle(keys, keyword, hours=fact == "ra") if fact in _ANGLES else keys.optional(keyword)
        )
        return None if number is None else spec.converted(number)
    if type_ == "count":
        whole = None if spec.default is None else int(spec.default)
        if spec.range is None:
            low, high = 1, 2**31 - 1  # the range of an integer in the database
        return keys.count(keyword, high, whole, low)
    if type_ == "number":
        missing = spec.default is not None and keys.found(keyword) is None
        number = float(spec.default or 0.0) if missing else spec.converted(keys.number(keyword))
        if not low <= number <= high:
            raise keys.error(keyword, keys.found(keyword), f"a number from {low:g} to {high:g}")
        return number
    if spec.levels:
        return spec.level(keys, keyword)
    compared = any(fact in names for names in instrument.same.values())
    default = None if spec.default is None else str(spec.default)
    if spec.choices:
        return _choice(keys, spec, default, instrument)
    text = _first_text(keys, spec.keywords, default, compared=compared)
    plain = instrument.without_component(text) if spec.plain else text
    others = {name.casefold(): value for name, value in spec.values.items()}
    return others.get(plain.casefold(), plain)


def _choice(keys: Keywords, spec: Fact, default: str | None, instrument: Instrument) -> str:
    """Return the value that the texts of several keywords choose; without a match, the default."""
    own = _first_text(keys, spec.keywords, "", compared=True)
    for keyword in {keyword for choice in spec.choices for keyword in choice.when}:
        _first_text(keys, (keyword,), "", compared=True)  # one that cannot be read is no other value
    chosen = spec.chosen(keys, instrument.without_component(own) if spec.plain else own, default)
    if chosen is None:
        known = dict.fromkeys(pattern for choice in spec.choices for pattern in sum(choice.when.values(), ()))
        found = ", ".join(str(keys.found(keyword)) for keyword in spec.keywords)
        raise keys.error(" + ".join(spec.keywords), found, f"some of {', '.join(known)}")
    return chosen


def _first_text(
    keys: Keywords, keywords: tuple[str, ...], default: str | None, *, compared: bool = False
) -> str:
    """Return the text of the first keyword that has one.

    Frames are put together by a text that is ``compared``: the default would be a guess if a card is there and
    cannot be read.
    """
    for keyword in keywords:
        if isinstance(keys.header.get(keyword), (str, int, float)):
            return keys.text(keyword)
    unread = next((keyword for keyword in keywords if keys.found(keyword) is not None), None)
    if compared and unread is not None:
        raise keys.error(unread, keys.found(unread), "a text")
    return keys.text(keywords[0], default)


def _exposure_time(keys: Keywords, keyword: str, spec: Fact, *, mask: bool) -> float:
    """Return the exposure of one coadd, s, rounded to the millisecond because headers differ and frames are
    compared by it.

    Only a mask may lack it.
    """
    default = 0.0 if mask else None if spec.default is None else float(spec.default)
    missing = default is not None and keys.found(keyword) is None
    seconds = round(float(default or 0.0) if missing else spec.converted(keys.number(keyword)), 3)
    most = spec.range[1] if spec.range else math.inf
    if not 0 <= seconds < most or (seconds == 0 and not mask):
        expected = "a number of seconds above 0" + (f" and below {most:.0f}" if math.isfinite(most) else "")
        raise keys.error(keyword, keys.found(keyword), expected)
    return seconds


def filters_in(instrument: Instrument, keys: Keywords) -> str:
    """Return the filters of all wheels with their component ids, or Open."""
    found: list[str] = []
    blockers: list[str] = []
    for wheel in instrument.wheels:
        value = _first_text(keys, wheel.keywords, wheel.default, compared=True)
        wheel.check(keys, wheel.keywords[0], value)
        ignored = any(fnmatchcase(value, pattern) for pattern in wheel.ignore)
        if not ignored and instrument.without_component(value).lower() != "open":
            (blockers if fits(value, wheel.blockers) else found).append(value)
    return "&".join(found or blockers) or "Open"


def _kind(instrument: Instrument, keys: Keywords, facts: Mapping[str, Any]) -> str:
    keyword = instrument.keyword("kind")
    given = keys.text(keyword).upper() if keyword else facts["filter_id"]
    kind = _chosen(instrument.kinds, keys, facts)
    if kind is None:
        keyword = keyword or instrument.keyword("filter_id")
        known = dict.fromkeys(p for choice in instrument.kinds for p in choice.when.get(keyword, ()))
        raise keys.error(keyword, given, f"one of {', '.join(known)}")
    return kind


def _chosen(choices: tuple[Choice, ...], keys: Keywords, facts: Mapping[str, Any]) -> str | None:
    """Return the value of the first choice that matches."""
    for choice in choices:
        values = {
            name: keys.text(name, "") if name.isupper() else facts.get(name, "") for name in choice.when
        }
        if all(fits(values[name], patterns) for name, patterns in choice.when.items()):
            return choice.value
    return None


def _start(instrument: Instrument, keys: Keywords, facts: Mapping[str, Any]) -> Start:
    """Return the start of the exposure.

    Raises
    ------
    FrameError
        If neither header nor file name has a date and a time.
    """

    def written(keywords: tuple[str, ...]) -> list[Written]:
        given = ((keyword, keys.found(keyword)) for keyword in keywords)
        return [Written(keyword, value) for keyword, value in given if value is not None]

    # A published bad pixel mask has only a date.
    mask = facts["kind"] == "bpm"
    dates, clocks = written(instrument.date), written(instrument.time)
    start = exposure_start(
        instrument.site, dates, clocks, mjd=written(instrument.mjd), ends=written(instrument.end),
        names=[keys.name, keys.text("ORIGNAME", "")], exposure=facts["exposure_time"] * facts["coadds"], date_only=mask,
        system=keys.text("TIMESYS", ""),
    )  # fmt: skip
    if start is None or not FIRST_DAY <= start.moment.date() <= LAST_DAY:
        for one in dates:
            moment = parse_moment(one.value)
            if moment is not None and not FIRST_DAY <= moment.date() <= LAST_DAY:
                raise keys.error(one.keyword, one.value, f"a date from {FIRST_DAY} to {LAST_DAY}")
        expected = "a date and a time, 2013-11-21 and 02:52:48.0"
        if not dates:
            raise keys.error(instrument.date[0], None, expected)
        found = "T".join(str(one.value) for one in (*dates[:1], *clocks[:1]))
        raise keys.error(f"{instrument.date[0]} + {instrument.time[0]}", found, expected)
    return start


def _guiding(instrument: Instrument, keys: Keywords) -> dict[str, bool]:
    guiding = instrument.guiding
    if guiding is None:
        return {}
    states = [keys.text(keyword, "") for keyword in guiding.keywords]
    glows = guiding.peripheral is not None and keys.text(guiding.peripheral, "") == guiding.state
    return {"guided": not any(states) or guiding.state in states, "peripheral_guider": glows}

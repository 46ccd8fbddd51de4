"""The facts that a table finds in a file; and a first table, guessed from a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from imaging.errors import FrameError
from imaging.header import text_of
from imaging.instruments import catalogue
from imaging.instruments.instrument import Fact, Instrument
from imaging.instruments.keywords import Header, Keywords
from imaging.instruments.reading import facts_in, filters_in, lamp_in, value_of
from imaging.kinds import CALIBRATION_FRAMES, KINDS


@dataclass(frozen=True)
class FactRead:
    """One fact, as a table finds it in a file.

    Attributes
    ----------
    fact
        Its name.
    keywords
        Its keyword; if none is present, those that were searched for.
    value
        The value, or None.
    problem
        What is missing or out of range; empty if the value is valid.
    """

    fact: str
    keywords: str
    value: Any
    problem: str = ""


def read_facts(
    instrument: Instrument, primary: Header, extension: Header | None, name: str
) -> list[FactRead]:
    """Read every fact of a file with a table, independently of problems with the others.

    Parameters
    ----------
    instrument
        The table.
    primary, extension
        Primary header, and header of the image if it has one.
    name
        The file's name.

    Returns
    -------
    list of FactRead
        The facts of the table, then the derived ones: kind, lamp, and the detector's numbers. The problem of
        these is that of the first fact that makes the file unusable.
    """
    keys = Keywords(primary, name)
    wheels = ", ".join(wheel.keywords[0] for wheel in instrument.wheels)
    try:
        found = [FactRead("filter_id", wheels, filters_in(instrument, keys))]
    except FrameError as error:
        found = [FactRead("filter_id", error.keyword or wheels, error.found, error.reason)]
    if (stranger := _of_another(instrument, primary)) is not None:
        found.insert(0, stranger)
    for fact in instrument.fact_names:
        spec = instrument.facts.get(fact)
        if spec is None:
            found.append(FactRead(fact, "not in the table", value_of(instrument, fact, keys, {})))
            continue
        header = (extension or {}) if spec.extension else primary
        present = [keyword for keyword in spec.keywords if header.get(keyword) is not None]
        keyword = _keywords(spec, present) if present else f"default; {' or '.join(spec.keywords)} is missing"
        unread = [
            (k, text) for k in spec.keywords if (text := text_of(header, k)) is not None and not present
        ]
        problem = "; ".join(f"{k} = {text} cannot be read" for k, text in unread)
        try:
            found.append(FactRead(fact, keyword, value_of(instrument, fact, keys, extension or {}), problem))
        except FrameError as error:
            found.append(FactRead(fact, error.keyword or keyword, error.found, error.reason))
    try:
        facts = facts_in(instrument, primary, extension, name)
    except FrameError as error:
        return [*found, FactRead("kind", error.keyword or "", error.found, error.reason)]
    found = [
        one
        if one.problem or one.value == facts[one.fact]
        else replace(one, keywords=_CHANGED, value=facts[one.fact])
        for one in found
    ]
    readout = instrument.detector.readout(facts)
    is_flat = facts["kind"] == "flat"
    lamp = lamp_in(instrument, primary, facts) if is_flat else None
    dark_lamp = (
        "no [[lamp]] of the table fits, so the flat cannot be used" if is_flat and lamp is None else ""
    )
    clock = " + ".join(
        next((keyword for keyword in keywords if primary.get(keyword) is not None), keywords[0])
        for keywords in (instrument.date, instrument.time)
    )
    zero_point = instrument.zero_point(facts)
    known = [] if zero_point is None else [FactRead("zero_point", "zero_points", zero_point)]
    return [
        *found,
        FactRead("started", clock, facts["started"]),
        FactRead("kind", instrument.keyword("kind"), facts["kind"]),
        FactRead(
            "lamp", ", ".join(dict.fromkeys(k for one in instrument.lamp for k in one.when)), lamp, dark_lamp
        ),
        FactRead("gain", "detector", readout.gain),
        FactRead("read_noise", "detector", readout.read_noise),
        FactRead("saturation", "detector", readout.saturation),
        FactRead("pixel_scale", "detector", readout.pixel_scale),
        *known,
        *(FactRead("note", "", note) for note in facts["header_notes"]),
    ]


def _of_another(instrument: Instrument, primary: Header) -> FactRead | None:
    """Return the name in a header if it is not that of an instrument; a reduction finds the table by it."""
    known = catalogue.by_header(primary)
    if known is not None and known.name == instrument.name:
        return None
    keywords = ("INSTRUME", *instrument.named_by)
    keyword = next((one for one in keywords if primary.get(one) is not None), None)
    if keyword is None:
        problem = (
            f"{' or '.join(keywords)} is missing; the keyword with the instrument's name belongs in named_by"
        )
        return FactRead("instrument", " or ".join(keywords), None, problem)
    problem = f"the frame is not one of {instrument.name}"
    return FactRead("instrument", keyword, str(primary.get(keyword)).strip(), problem)


#: Source of a value that is not that of the keyword.
_CHANGED: Final = "from other keywords or the size of the image"


def _keywords(spec: Fact, present: Sequence[str]) -> str:
    """Return the keywords that give a fact: several for one with a rule, else the first that is there."""
    if spec.corners is not None:
        return ", ".join(spec.keywords)
    if spec.choices:
        return ", ".join(dict.fromkeys((present[0], *(k for choice in spec.choices for k in choice.when))))
    return f"{present[0]} - {spec.minus[0]}" if spec.minus else present[0]


#: Keywords in which instruments store facts; the first one in a file is used.
_USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "observation_class": ("OBSCLASS",), "target": ("OBJECT", "TARGET"),
    "exposure_time": ("EXPTIME", "EXPOSURE", "ITIME", "TEXPTIME"), "coadds": ("COADDS", "NCOADDS", "NDIT"),
    "read_pairs": ("NREADS", "NSAMP", "LNRS"), "focal_mask": ("FPMASK", "MASKNAME", "SLIT"),
    "disperser": ("GRATING", "GRISM", "DISPERSR"), "detector": ("DETID", "DETECTOR", "ARRAYID"),
    "section": ("DETSEC",), "ra": ("RA", "OBJCTRA"), "dec": ("DEC", "OBJCTDEC"), "airmass": ("AIRMASS",),
    "poffset": ("POFFSET",), "qoffset": ("QOFFSET",), "pa": ("PA",), "inport": ("INPORT",),
    "program": ("GEMPRGID", "PROGID", "PROPID", "PROPOSID"), "observation_id": ("OBSID",),
    "data_label": ("DATALAB",), "quality": ("RAWGEMQA",), "image_quality": ("RAWIQ",),
    "requested_quality": ("REQIQ",), "requested_clouds": ("REQCC",),
}  # fmt: skip
#: Facts that some instruments have.
_OWN: Final[Mapping[str, tuple[str, ...]]] = {"camera": ("CAMERA",)}
#: Keywords of the time of the start, and of the modified Julian date.
_CLOCKS: Final[Mapping[str, tuple[str, ...]]] = {
    "time": ("UTSTART", "UT", "TIME-OBS", "UTC"), "mjd": ("MJD-OBS", "MJD_OBS", "MJD"),
}  # fmt: skip
#: Keyword of the date, and often of the time with it.
_DATE: Final = "DATE-OBS"
#: First and last column, first and last row.
_CORNERS: Final = ("LOWROW", "HIROW", "LOWCOL", "HICOL")
_WHEELS: Final = ("FILTER", "FILTER1", "FILTER2", "FILTER3", "FILTNAM", "FILT1POS", "FILT2POS")
_TYPES: Final = ("OBSTYPE", "IMAGETYP", "IMAGETYPE", "DATA-TYP", "FRAMETYP")
#: Keywords that may have the instrument's name where there is no INSTRUME.
_NAMES: Final = ("CURRINST", "INSTRMNT", "CAMERA", "DETNAM", "DETECTOR")
#: Defaults of optional facts.
_LENIENT: Final[Mapping[str, str]] = {
    "coadds": "1", "read_pairs": "1", "poffset": "0.0", "qoffset": "0.0", "pa": "0.0", "inport": "3",
    "focal_mask": '"Open"', "disperser": '"Open"',
}  # fmt: skip
_OBJECTS: Final = ("OBJECT*", "SCIENCE*", "LIGHT*")


def first_table(primary: Header, extension: Header | None, shape: tuple[int, int]) -> str:
    """Return a first table for the instrument of a file, in TOML: to be corrected and completed.

    Parameters
    ----------
    primary, extension
        Headers of a raw frame.
    shape
        Rows and columns of its image.
    """
    keyword = next((one for one in ("INSTRUME", *_NAMES) if isinstance(primary.get(one), str)), "")
    header_name = str(primary.get(keyword, "")).strip() or "MYCAM"
    name = re.sub(r"[^A-Za-z0-9]+", "-", header_name).strip("-")[:30] or "MYCAM"
    aliases = [] if name == header_name else [f"aliases = [{_text(header_name)}]   # the name in the headers"]
    named = (
        []
        if keyword == "INSTRUME"
        else [f"named_by = [{_text(keyword or 'CAMERA')}]   # there is no INSTRUME"]
    )
    lines = [
        f"# A first table for {name}. Replace every 0.0 by the number of the detector; lines marked GUESS are",
        "# usual values that the file does not confirm. Then:  nirflow instruments check THIS_FILE FRAMES...",
        "",
        f"name = {_text(name)}", f"title = {_text(name)}", f"version = {_text(f'{name.lower()}-1')}", *aliases, *named,
    ]  # fmt: skip
    for key, usual in _CLOCKS.items():
        there = [keyword for keyword in usual if primary.get(keyword) is not None]
        if there:
            value = _one_line(repr(primary.get(there[0])))
            lines.append(f"{key} = [{', '.join(map(_text, there))}]   # here {value}")
        elif key == "time" and "T" in str(primary.get(_DATE, "")):  # date and time in one card
            lines.append(f"time = [{_text(_DATE)}]   # here {_one_line(repr(primary.get(_DATE)))}")
    lines += [
        "", "# Nights and file names change at 14:00 local time; without these lines, at 14:00 UT:",
        "# [site]", "# utc_offset = 0.0   # local time minus UT, hours",
    ]  # fmt: skip
    lines += ["", "[facts]"]
    for fact, usual in _USUAL.items():
        header = (extension or {}) if fact == "section" else primary
        there = [keyword for keyword in usual if header.get(keyword) is not None]
        if fact == "section" and all(header.get(keyword) is not None for keyword in _CORNERS):
            first = "0" if header.get(_CORNERS[0]) == 0 else "1"
            borders = ", ".join(map(_text, _CORNERS))
            lines.append(
                f"section = {{ keywords = [{borders}], extension = true, corners = {{ first = {first} }} }}   # GUESS"
            )
            continue
        if not there and fact != "exposure_time":
            lines.append(f"# {fact} = {{ keywords = [{_text(usual[0])}] }}   # not in this file")
            continue
        keywords = there or list(usual[:1])
        default = "" if fact == "exposure_time" else f", default = {_LENIENT.get(fact, _text(''))}"
        default = "" if fact in ("ra", "dec", "airmass") else default
        where = ", extension = true" if fact == "section" else ""
        value = f"   # here {header.get(keywords[0])!r}"
        lines.append(
            f"{fact} = {{ keywords = [{', '.join(map(_text, keywords))}]{default}{where} }}{_one_line(value)}"
        )
    for fact, usual in _OWN.items():
        there = [one for one in usual if primary.get(one) is not None and one != keyword]
        if there:
            value = _one_line(repr(primary.get(there[0])))
            lines.append(f'{fact} = {{ keywords = [{_text(there[0])}], default = "" }}   # here {value}')
    wheels = [keyword for keyword in _WHEELS if primary.get(keyword) is not None] or ["FILTER"]
    for wheel in wheels:
        value = _one_line(repr(primary.get(wheel)))
        lines += ["", "[[wheels]]", f"keywords = [{_text(wheel)}]   # here {value}"]
    kind = next((keyword for keyword in _TYPES if primary.get(keyword) is not None), _TYPES[0])
    for value in (*CALIBRATION_FRAMES, "object"):
        names = _OBJECTS if value == "object" else (f"{value.upper()}*",)
        patterns = ", ".join(map(_text, names))
        lines += ["", "[[kinds]]", f"value = {_text(value)}", f"when = {{ {kind} = [{patterns}] }}"]
    lines[-1] += _one_line(f"   # here {primary.get(kind)!r}")
    lines += [
        "", "# Flats are used only if it is known whether the lamp was on, for example:",
        "# [[lamp]]", '# value = "on"', '# when = { LAMP = ["on*"] }', "# [[lamp]]", '# value = "off"',
        '# when = { LAMP = ["off*"] }',
    ]  # fmt: skip
    numbers = {
        "pixel_scale": ("PIXSCALE",), "gain": ("GAIN",), "read_noise": ("RDNOISE", "READNOIS"), "well_depth": (),
        "field_diameter": (),
    }  # fmt: skip
    lines += [
        "",
        "[offsets]   # GUESS",
        'x = "-q"',
        'y = "-p"',
        "",
        "[detector]",
        f"shape = [{shape[0]}, {shape[1]}]",
    ]
    for number, usual in numbers.items():
        given = next((primary.get(k) for k in usual if isinstance(primary.get(k), (int, float))), 0.0)
        lines.append(f"{number} = {float(given or 0.0)!r}")
    lines += [
        "linear_fraction = 0.7   # GUESS", "nonlinearity = [1.0, 0.0, 0.0]   # GUESS: no correction",
        'coadds = "summed"   # GUESS', 'reads = "averaged"   # GUESS',
        "", "[bands]   # GUESS", 'J = { flat = "lamp" }', 'H = { flat = "lamp" }', 'Ks = { flat = "thermal" }',
        "", "[same]   # GUESS",
        *(f"{kind.name} = [{', '.join(map(_text, kind.same))}]" for kind in KINDS.values()),
        "", "[tolerance]", "exposure_time = 0.01",
        "", "[windows]   # days; GUESS",
        *(
            f"{kind.name} = {{ {', '.join(f'{name} = {days:g}' for name, days in kind.windows.items())} }}"
            for kind in KINDS.values()
            if kind.windows
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_one_line(escaped)}"'


def _one_line(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)

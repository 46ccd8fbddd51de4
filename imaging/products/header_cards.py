"""Header cards of a product: Gemini's keywords, the celestial WCS, and the raw cards that remain valid.

With these keywords astrodata tags a product as processed, and DRAGONS accepts our dark, flat and bad pixel
mask as its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from imaging.frames.facts import FrameFacts
from imaging.frames.file_names import plain_name
from imaging.header import Card, Header
from imaging.instruments.time_texts import parse_moment
from imaging.io.cards import CARD
from imaging.kinds import CALIBRATIONS, KINDS, ProductKind
from imaging.pixels.wcs import DISTORTION, WCS_KEYWORDS, celestial_cards
from imaging.printable import ascii_text
from imaging.products.product_tables import HistoryRow, LineageRow, ProvenanceRow, stamped

CardValue = str | int | float | bool
Cards = Mapping[str, CardValue | tuple[CardValue, str]]

#: Cards that describe the bytes of the raw file, or the gain and noise of raw pixels, and are not valid for a
#: product.
_RAW_ONLY = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|BZERO|BSCALE|BLANK|NEXTEND|INHERIT|EXTNAME|EXTVER"
    r"|CHECKSUM|DATASUM|GAIN|RDNOISE|END|ZIMAGE|ZHECKSUM|ZDATASUM"
)
_MOST_NAMED = 999
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
#: A date without a time, and the time zone behind a time.
_DATE_LENGTH = len("2013-11-21")
_ZONE = re.compile(r"[A-Za-z]$|[+-]\d{1,2}:?(\d{2})?$")
#: Two statements of one start may differ by as much.
_SAME_TIME = timedelta(minutes=1)
#: Characters of a comment after a number (value to column 30, three for the slash).
_NUMBER_COMMENT = CARD - 33


@dataclass(frozen=True)
class Record:
    """What a product records about itself in addition to its pixels.

    Attributes
    ----------
    kind
        Kind of the product.
    facts
        Facts of the first input.
    inputs
        Names of the frames that were combined, the first one first.
    stamp
        When the product was made (UTC); given by the caller, because this layer has no clock.
    version
        Version of nirflow.
    key
        The recipe key: equal keys mean equal products.
    span
        Start of the first and end of the last combined exposure (UTC).
    calibrations
        Names of the applied calibrations, by kind.
    calibration_keys
        Their recipe keys, by kind: a folder may hold several products of one name.
    linearised
        Whether the pixels were corrected for non-linearity; the limits in the header are then corrected too.
    cards, extension_cards
        Further cards of the primary header and of every image extension: value, or value and comment.
    history, provenance, lineage
        Rows of the tables.
    """

    kind: ProductKind
    facts: FrameFacts
    inputs: Sequence[str]
    stamp: datetime
    version: str = ""
    key: str = ""
    span: tuple[datetime, datetime] | None = None
    calibrations: Mapping[str, str] = field(default_factory=dict)
    calibration_keys: Mapping[str, str] = field(default_factory=dict)
    linearised: bool = True
    cards: Cards = field(default_factory=dict)
    extension_cards: Cards = field(default_factory=dict)
    history: Sequence[HistoryRow] = ()
    provenance: Sequence[ProvenanceRow] = ()
    lineage: Sequence[LineageRow] = ()

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("a product has at least one input")


#: Characters that the name of a product must not contain, and the maximum length before its kind.
_ODD = re.compile(r"[^\w.+-]+", re.ASCII)
_LONGEST_STEM = 180


def product_name(first_input: str, kind: ProductKind) -> str:
    """Return the file name of a product: ``S20131120S0115.fits`` and dark give ``S20131120S0115_dark.fits``.

    Of any other file name it keeps letters, digits, dots, pluses and dashes, which are valid in the store, in
    headers and on other systems.
    """
    stem = _ODD.sub("_", plain_name(first_input).removesuffix(".fits")).lstrip("_.+-")
    return f"{stem[:_LONGEST_STEM] or 'frame'}{KINDS[kind].suffix}.fits"


def primary_cards(raw: Header, record: Record, extensions: int) -> list[Card | tuple[Any, ...]]:
    """Return the cards of a product's primary header after the structural ones.

    Parameters
    ----------
    raw
        Primary header of the first input.
    record
        What the product records about itself.
    extensions
        Number of extensions.
    """
    stamp, facts = stamped(record.stamp), record.facts
    kind = KINDS[record.kind]
    new: dict[str, CardValue | tuple[CardValue, str]] = {
        "OBSTYPE": kind.obstype,
        "NEXTEND": (extensions, "Number of extensions"),
        "ORIGNAME": (plain_name(record.inputs[0]), "Original filename prior to processing"),
        "GEM-TLM": (stamp, "UT last modification with GEMINI"),
        "PROCSOFT": ("nirflow", "Data processing software used"),
        "PREPARE": (stamp, "UT time stamp for PREPARE"),
        "NCOMBINE": (len(record.inputs), "Number of input images"),
    }
    if kind.unit is None:  # a mask has no object
        new["OBJECT"] = kind.obstype
    if facts.data_label:
        new["DATALAB"] = (f"{facts.data_label}-{record.kind.upper()}", "DHS data label")
    if record.version:
        new["PROCSVER"] = (record.version, "nirflow version")
    if record.key:
        new["NFKEY"] = (record.key, "nirflow recipe key")
    new |= _corrected_dates(raw, facts)
    if record.span is not None:
        new["DATE-BEG"] = (stamped(record.span[0]), "Beginning of the inputs' exposures")
        new["DATE-END"] = (stamped(record.span[1]), "End of the inputs' exposures")
    for i, name in enumerate(record.inputs[:_MOST_NAMED], start=1):
        new[f"IMCMB{i:03d}"] = plain_name(name)
    for applied in CALIBRATIONS:
        what = applied.label if applied.unit is None else f"{applied.label} image"
        if applied.name in record.calibrations:
            new[applied.applied_card] = (record.calibrations[applied.name], f"{what.capitalize()} used")
        if applied.name in record.calibration_keys:
            key = record.calibration_keys[applied.name]
            new[applied.key_card] = (key, f"NFKEY of the {applied.name}")
    new[kind.card] = (stamp, f"UT time stamp of the processed {record.kind}")
    new.update({keyword.upper(): value for keyword, value in record.cards.items()})
    return _with_new(raw, new, drop=_RAW_ONLY)


def _corrected_dates(raw: Header, facts: FrameFacts) -> dict[str, CardValue | tuple[CardValue, str]]:
    """Return the date cards that do not state the start of the first input in UTC, as they should be.

    Other software has only the header, and FITS allows no time zone in a date.
    """
    corrected: dict[str, CardValue | tuple[CardValue, str]] = {}
    for keyword in facts.table.date:
        text = str(raw.get(keyword, "")).strip()
        moment = parse_moment(text)
        if moment is None:
            continue
        has_time = len(text) > _DATE_LENGTH
        right = stamped(facts.started) if has_time else facts.started.date().isoformat()
        off = abs(moment - facts.started) > _SAME_TIME if has_time else moment.date() != facts.started.date()
        if off or _ZONE.search(text[_DATE_LENGTH:]):
            corrected[keyword] = (right, "UTC of the start, corrected")
    return corrected


def extension_cards(
    header: Header, record: Record, shape: tuple[int, int], *, primary: Header | None = None
) -> list[Card | tuple[Any, ...]]:
    """Return the cards that SCI, VAR and DQ share, after the structural ones and before BUNIT.

    Parameters
    ----------
    header
        Header of the image: the celestial WCS is kept; a third axis and cards of the raw file are dropped.
    record
        What the product records about itself.
    shape
        Rows and columns of the product.
    primary
        Primary header of the first input, for SCI: it also describes the observation.
    """
    facts = record.facts
    saturation = saturation_electrons(facts, corrected=record.linearised)
    linear = saturation_electrons(facts, corrected=record.linearised, fraction=facts.readout.linear_fraction)
    new: dict[str, CardValue | tuple[CardValue, str]] = {
        "RDNOISE": (facts.read_noise, "Read noise of one input [electrons]"),
        "GAIN": (1.0, "Gain [electrons/data value]"),
        "NONLINEA": (linear, "Non-linear regime [electron]"),
        "SATLEVEL": (saturation, "Saturation level [electron]"),
        "ARRAYSEC": (facts.section, "Array section(s)"),
        "DATASEC": (f"[1:{shape[1]},1:{shape[0]}]", "Data section(s)"),
        "DETSEC": (facts.section, "Detector section(s)"),
    }
    if primary is not None:
        new.update(_observation(primary, record))
    new.update({keyword.upper(): value for keyword, value in record.extension_cards.items()})
    dropped = re.compile(f"{_RAW_ONLY.pattern}|{WCS_KEYWORDS.pattern}|{DISTORTION.pattern}|BUNIT|UTYPE")
    return [*_with_new(header, new, drop=dropped), *celestial_cards(header)]


def _observation(primary: Header, record: Record) -> dict[str, CardValue | tuple[CardValue, str]]:
    """Return the cards that describe the observation, for the image itself.

    Software that opens one extension (`astropy.nddata.CCDData.read` with ``hdu="SCI"``) does not see the
    primary header.
    """
    facts, kind = record.facts, KINDS[record.kind]
    started = record.span[0] if record.span is not None else facts.started
    new: dict[str, CardValue | tuple[CardValue, str]] = {
        "INSTRUME": str(primary.get("INSTRUME", facts.instrument)),
        "TELESCOP": str(primary.get("TELESCOP", "")),
        "OBJECT": facts.target if kind.unit is not None else kind.obstype,
        "DATE-OBS": (stamped(started), "Start of the first exposure"),
        "MJD-OBS": ((started - _MJD_EPOCH) / timedelta(days=1), "Start of the first exposure"),
        "TIMESYS": ("UTC", "Time system"),
    }
    if isinstance(scale := primary.get("PIXSCALE"), float):
        new["PIXSCALE"] = (scale, "Pixel scale [arcsec]")
    if kind.unit is not None:  # a mask has neither a filter nor an exposure
        new["FILTER"] = facts.filter_id
        new["EXPTIME"] = (facts.exposure, "Exposure of the values [s]")
        if facts.airmass is not None:
            new["AIRMASS"] = facts.airmass
        new |= {key.upper(): value for key, value in record.cards.items() if key.upper() == "AIRMASS"}
    return {keyword: value for keyword, value in new.items() if value != ""}


def saturation_electrons(facts: FrameFacts, *, corrected: bool, fraction: float = 1.0) -> float:
    """Return the saturation (or a fraction of it) of a frame in electrons, all coadds.

    With ``corrected`` it is corrected for non-linearity like the pixels, per coadd.
    """
    readout = facts.readout
    n = readout.saturation_electrons * fraction
    if corrected:
        c1, c2, c3 = readout.nonlinearity
        n = c1 * n + c2 * n**2 + c3 * n**3
    return n * facts.coadds


def _with_new(
    old: Header, new: Mapping[str, CardValue | tuple[CardValue, str]], *, drop: re.Pattern[str]
) -> list[Card | tuple[Any, ...]]:
    """Return the old cards that remain, with replaced ones in their place, then the new ones."""
    left = {keyword: _card(keyword, value) for keyword, value in new.items()}
    cards: list[Card | tuple[Any, ...]] = []
    for card in old.cards:
        if card.keyword in left:
            cards.append(left.pop(card.keyword))
        elif card.keyword and card.keyword not in new and not drop.fullmatch(card.keyword):
            cards.append(card)
    return [*cards, *left.values()]


def _card(keyword: str, value: CardValue | tuple[CardValue, str]) -> tuple[Any, ...]:
    """Return a card in printable ASCII; a comment that does not fit after its value is omitted, not truncated."""
    content, *comments = value if isinstance(value, tuple) else (value,)
    comment = ascii_text(str(comments[0])) if comments else ""
    if not isinstance(content, str):
        return (keyword, content, comment[:_NUMBER_COMMENT])
    content = ascii_text(content)
    # The value begins in column 11, is quoted (inner quotes doubled), and " / " precedes the comment.
    taken = 10 + max(20, 2 + len(content) + content.count("'")) + 3
    return (keyword, content, comment if taken + len(comment) <= CARD else "")

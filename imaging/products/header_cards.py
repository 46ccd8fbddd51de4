"""Header cards of a product: Gemini's marks, the celestial WCS, and the raw header that stays true.

The marks make astrodata tag a product as processed, and DRAGONS take our dark, flat and bad pixel mask for
its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from astropy.io.fits import Card, Header

from imaging.frames.facts import FrameFacts, plain_name
from imaging.io.fitsfile import CARD
from imaging.kinds import CALIBRATIONS, KINDS, ProductKind
from imaging.pixels.wcs import DISTORTION, celestial_cards
from imaging.printable import ascii_text
from imaging.products.product_tables import HistoryRow, LineageRow, ProvenanceRow, stamped

CardValue = str | int | float | bool
Cards = Mapping[str, CardValue | tuple[CardValue, str]]

#: What describes the raw file's bytes, or the raw pixels' gain and noise, and is not true of a product.
_RAW_ONLY = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|BZERO|BSCALE|BLANK|NEXTEND|INHERIT|EXTNAME|EXTVER"
    r"|CHECKSUM|DATASUM|GAIN|RDNOISE|END|ZIMAGE|ZHECKSUM|ZDATASUM"
)
_WCS = re.compile(
    r"WCSAXES|WCSDIM|RADECSYS|RADESYS|EQUINOX|(CTYPE|CRPIX|CRVAL|CUNIT|CDELT|CROTA)\d|(CD|PC)\d_\d|CD3_3"
    r"|LONPOLE|LATPOLE|MJDREF[IF]?"
)
_MOST_NAMED = 999
#: Characters of a comment behind a number (value to column 30, three for the slash).
_NUMBER_COMMENT = CARD - 33


@dataclass(frozen=True)
class Record:
    """What a product says about itself besides its pixels.

    Attributes
    ----------
    kind
        Kind of the product.
    facts
        The first input's facts.
    inputs
        Names of the frames that were combined, the first one first.
    stamp
        When the product was made (UTC); the caller's, since the science has no clock.
    version
        Version of nirflow.
    key
        The recipe key: same key, same product.
    span
        Beginning and end of the exposures that were combined (UTC).
    calibrations
        Names of the calibrations that were applied, by kind.
    calibration_keys
        Their recipe keys, by kind: a folder may hold several products of one name.
    linearised
        Whether the pixels went through the correction for non-linearity; the limits in the header then
        did too.
    cards, extension_cards
        Further cards of the primary and of every image extension: value, or value and comment.
    history, provenance, lineage
        The tables' rows.
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


#: What no product's name has, and how long a name may be before its kind.
_ODD = re.compile(r"[^\w.+-]+", re.ASCII)
_LONGEST_STEM = 180


def product_name(first_input: str, kind: ProductKind) -> str:
    """File name of a product: ``S20131120S0115.fits`` and dark give ``S20131120S0115_dark.fits``.

    Of a file that somebody named otherwise it keeps letters, digits, dots, pluses and dashes: the store, a header and
    another system can hold those.
    """
    stem = _ODD.sub("_", plain_name(first_input).removesuffix(".fits")).lstrip("_.+-")
    return f"{stem[:_LONGEST_STEM] or 'frame'}{KINDS[kind].suffix}.fits"


def primary_cards(raw: Header, record: Record, extensions: int) -> list[Card | tuple[Any, ...]]:
    """Cards of a product's primary header behind the structural ones.

    Parameters
    ----------
    raw
        Primary header of the first input.
    record
        What the product says about itself.
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
    if kind.unit is None:  # a mask is of no object
        new["OBJECT"] = kind.obstype
    if facts.data_label:
        new["DATALAB"] = (f"{facts.data_label}-{record.kind.upper()}", "DHS data label")
    if record.version:
        new["PROCSVER"] = (record.version, "nirflow version")
    if record.key:
        new["NFKEY"] = (record.key, "nirflow recipe key")
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
            new[f"{applied.name.upper()}KEY"] = (key, f"NFKEY of the {applied.name}")
    new[kind.card] = (stamp, f"UT time stamp of the processed {record.kind}")
    new.update({keyword.upper(): value for keyword, value in record.cards.items()})
    return _with_new(raw, new, drop=_RAW_ONLY)


def extension_cards(header: Header, record: Record, shape: tuple[int, int]) -> list[Card | tuple[Any, ...]]:
    """Cards that SCI, VAR and DQ share, behind the structural ones and before BUNIT.

    Parameters
    ----------
    header
        Header of the image: the celestial WCS is kept, a third axis and what belongs to the raw file is not.
    record
        What the product says about itself.
    shape
        Rows and columns of the product.
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
    new.update({keyword.upper(): value for keyword, value in record.extension_cards.items()})
    dropped = re.compile(f"{_RAW_ONLY.pattern}|{_WCS.pattern}|{DISTORTION.pattern}|BUNIT|UTYPE")
    return [*_with_new(header, new, drop=dropped), *celestial_cards(header)]


def saturation_electrons(facts: FrameFacts, *, corrected: bool, fraction: float = 1.0) -> float:
    """Saturation (or a fraction of it) of a frame in electrons, all coadds.

    With ``corrected`` it goes through the correction for non-linearity as the pixels did, per coadd.
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
    """The old cards that stay, a replaced one in its place, then the new ones."""
    left = {keyword: _card(keyword, value) for keyword, value in new.items()}
    cards: list[Card | tuple[Any, ...]] = []
    for card in old.cards:
        if card.keyword in left:
            cards.append(left.pop(card.keyword))
        elif card.keyword and card.keyword not in new and not drop.fullmatch(card.keyword):
            cards.append(card)
    return [*cards, *left.values()]


def _card(keyword: str, value: CardValue | tuple[CardValue, str]) -> tuple[Any, ...]:
    """A card in printable ASCII; a comment that does not fit beside its value is left out whole, not cut."""
    content, *comments = value if isinstance(value, tuple) else (value,)
    comment = ascii_text(str(comments[0])) if comments else ""
    if not isinstance(content, str):
        return (keyword, content, comment[:_NUMBER_COMMENT])
    content = ascii_text(content)
    # The value begins in column 11, is quoted (inner quotes doubled), and " / " stands before the comment.
    taken = 10 + max(20, 2 + len(content) + content.count("'")) + 3
    return (keyword, content, comment if taken + len(comment) <= CARD else "")

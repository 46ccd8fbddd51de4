"""The typed model of an instrument's table, validated when it is read.

A table contains everything that the pipeline needs to know about an instrument: where each fact of a frame is
in its headers, which frames are darks or flats, how the detector responds to light, and which frames belong
together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imaging.instruments.checking.table_errors import TableError
from imaging.instruments.checking.toml_lines import Place
from imaging.instruments.conversions import Adaptation, Conversion, SkyOffsets
from imaging.instruments.detector import Detector
from imaging.instruments.header_rules import (
    FactRules,
    Pattern,
    Patterns,
    UnfitRules,
    WheelRules,
    ZeroPoints,
    extinction,
    zero_point,
    zero_point_error,
)
from imaging.instruments.site import Site
from imaging.instruments.time_windows import Window, needed_windows
from imaging.kinds import KINDS, FrameKind, ProductKind

#: A value of a fact.
Value = str | int | float
FactType = Literal["text", "number", "count", "optional"]
#: Source of the light of a band's flats.
FlatLight = Literal["lamp", "thermal"]

#: The facts that every frame has, by type, with the value to use if a table names no keyword. A table must
#: name those without a value here.
COMMON: Final[Mapping[str, tuple[FactType, Value | None]]] = {
    "observation_class": ("text", ""), "target": ("text", ""), "exposure_time": ("number", None),
    "coadds": ("count", 1), "read_pairs": ("count", 1), "focal_mask": ("text", "Open"),
    "disperser": ("text", "Open"), "detector": ("text", ""), "section": ("text", ""),
    "ra": ("optional", ""), "dec": ("optional", ""), "airmass": ("optional", ""), "poffset": ("number", 0.0),
    "qoffset": ("number", 0.0), "pa": ("number", 0.0), "inport": ("count", 3), "program": ("text", ""),
    "observation_id": ("text", ""), "data_label": ("text", ""), "quality": ("text", ""), "image_quality": ("text", ""),
    "requested_quality": ("text", ""), "requested_clouds": ("text", ""),
}  # fmt: skip
#: Facts derived from several keywords; rules and modes may compare them like the others.
DERIVED: Final = ("instrument", "kind", "filter_id", "filter", "lamp", "binning")


class TableModel(BaseModel):
    """A part of a table; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fact(Conversion, FactRules, TableModel):
    """Location of a fact in the headers, and its valid values."""

    keywords: tuple[str, ...] = Field(min_length=1, description="keywords; the first one present is used")
    default: Value | None = Field(
        default=None, description="value if none is present; default: the fact is required"
    )
    label: str = Field(default="", description="label in messages; default: its name")
    unit: str = Field(default="", description="unit of a number")
    values: dict[str, str] = Field(
        default_factory=dict, description="other names of a value, case-insensitive"
    )
    range: tuple[float, float] | None = Field(
        default=None, description="smallest and largest value of a number"
    )
    plain: bool = Field(default=False, description="drop a component id (see `component`) from the value")
    extension: bool = Field(
        default=False, description="located in the header of the image, not in the primary one"
    )
    type: FactType = Field(
        default="text", description="text, number or count; only for additional facts of the instrument"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.range is not None and not self.range[0] <= self.range[1]:
            raise ValueError(f"range goes from {self.range[0]:g} down to {self.range[1]:g}")
        return self


class Wheel(WheelRules, TableModel):
    """A wheel that may hold a filter."""

    keywords: tuple[str, ...] = Field(min_length=1, description="keywords; the first one present is used")
    default: str = Field(default="Open", description="value if none is present")
    ignore: Patterns = Field(default=(), description="values that are not filters, case-sensitive")


class Choice(TableModel):
    """A value that applies if every keyword (in capitals) or fact matches; the first such choice is used."""

    value: str
    when: dict[str, Patterns] = Field(
        min_length=1, description="keyword or fact to patterns, one of which must match"
    )


class Guiding(TableModel):
    """How to recognise that a guide probe was guiding."""

    keywords: tuple[str, ...] = Field(min_length=1, description="keywords of the probes' states")
    state: str = Field(description="the state of a guiding probe")
    peripheral: str | None = Field(
        default=None, description="keyword of the probe whose glow reaches the detector"
    )


Axis = Literal["p", "-p", "q", "-q"]


class Offsets(SkyOffsets, TableModel):
    """How the telescope's offsets P and Q, arcsec, move a star on the detector."""

    x: Axis = Field(description="the offset that moves a star along x, with its sign")
    y: Axis = Field(description="the same along y")
    flipped: tuple[Literal["x", "y"], ...] = Field(
        default=(), description="axes whose sign is reversed on `port`"
    )
    port: int | None = Field(default=None, description="port of the telescope on which they are flipped")
    unless: dict[str, tuple[Value, ...]] = Field(
        default_factory=dict, description="fact to the values with which they are not flipped"
    )

    def signs(self, facts: Mapping[str, Any]) -> tuple[float, float]:
        """Return the signs of x and y for a frame with these facts: ``inport`` and those of ``unless``."""
        upright = any(facts.get(fact) in values for fact, values in self.unless.items())
        flipped = self.flipped if facts["inport"] == self.port and not upright else ()
        x, y = (-1.0 if axis.startswith("-") else 1.0 for axis in (self.x, self.y))
        return (-x if "x" in flipped else x), (-y if "y" in flipped else y)


class Unfit(UnfitRules, TableModel):
    """Frames that are excluded from reductions."""

    quality: tuple[str, ...] = Field(
        default=(), description="quality values of failed frames, case-insensitive"
    )
    acquisition: tuple[str, ...] = Field(default=(), description="observation classes of acquisitions")
    engineering: Pattern | None = Field(
        default=None, description="parts of the program ids of engineering frames"
    )


class ComparedValue(TableModel):
    """A header value that all frames of one set of calibration frames have in common."""

    keyword: str = Field(description="keyword, in the primary header or that of the image")
    label: str = Field(default="", description="label in messages; default: the keyword alone")
    unit: str = Field(default="", description="unit of a number")
    tolerance: float | None = Field(
        default=None, ge=0, description="difference that is normal; default: the value is a text"
    )


class Band(TableModel):
    """A filter that the instrument reduces."""

    flat: FlatLight = Field(description="lamp: lamp on minus lamp off; thermal: lamp off minus dark")
    standard: tuple[Literal["Y", "J", "H", "K", "Ks"], ...] = Field(
        default=(),
        description="bands of catalogues whose magnitudes stand for its own, the best first; default: its name",
    )


class Instrument(Adaptation, TableModel):
    """One instrument."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.+-]{0,30}$", description="name in facts and products")
    title: str = Field(description="full name, for messages")
    version: str = Field(
        pattern=r"^[\w.+-]{1,80}$", description="name of the version of its association rules"
    )
    aliases: tuple[str, ...] = Field(default=(), description="other names in headers")
    tags: tuple[str, ...] = Field(default=(), description="tags of every frame, as astrodata gives them")
    quirks: str | None = Field(
        default=None, pattern=r"^[\w.]+:\w+$",
        description="function (primary header, facts) -> facts for what a table cannot express, module:function",
    )  # fmt: skip
    component: Pattern | None = Field(
        default=None, description="pattern of the component id at the end of a name, which is dropped"
    )
    date: tuple[str, ...] = Field(default=("DATE-OBS",), min_length=1, description="keywords of the date")
    time: tuple[str, ...] = Field(
        default=("UTSTART", "TIME-OBS"),
        min_length=1,
        description="keywords of the UTC of the start of the exposure",
    )
    end: tuple[str, ...] = Field(
        default=("UTEND",), description="keywords of the UTC of the end of the exposure"
    )
    mjd: tuple[str, ...] = Field(
        default=("MJD-OBS",), description="keywords of the modified Julian date of the start"
    )
    site: Site = Site()
    facts: dict[str, Fact]
    names: dict[str, str] = Field(
        default_factory=dict, description="alternative name of a fact for users, to its name"
    )
    wheels: tuple[Wheel, ...] = Field(min_length=1)
    filter_names: dict[str, str] = Field(
        default_factory=dict,
        description="filters by their usual name, case-insensitive: as in the headers without component ids, those "
        "of several wheels joined by &",
    )
    kinds: tuple[Choice, ...] = Field(min_length=1, description="kind of a frame")
    lamp: tuple[Choice, ...] = Field(default=(), description="whether the lamp of a flat was on or off")
    guiding: Guiding | None = None
    unfit: Unfit = Unfit()
    offsets: Offsets
    detector: Detector
    peers: tuple[ComparedValue, ...] = Field(
        default=(), description="header values that the frames of a set of darks or flats have in common"
    )
    bands: dict[str, Band] = Field(min_length=1)
    zero_points: tuple[ZeroPoints, ...] = Field(
        default=(),
        description="nominal zero points; the first entry that matches a frame and has its band is used",
    )
    same: dict[ProductKind, tuple[str, ...]] = Field(
        default_factory=dict,
        description="facts that frames and products of a kind share; default: those of the kind",
    )
    tolerance: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict, description="tolerance of a number, in its unit"
    )
    windows: dict[ProductKind, Window] = Field(
        default_factory=dict, description="time windows of a kind; default: those of the kind"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, given: Any) -> Any:
        """Complete the table by the facts and windows of the kinds that it does not list."""
        if not isinstance(given, dict):
            return given
        completed = {}
        for name, usual in (
            ("same", {kind.name: kind.same for kind in KINDS.values()}),
            ("windows", {kind.name: dict(kind.windows) for kind in KINDS.values()}),
        ):
            own = given.get(name, {})
            completed[name] = usual | own if isinstance(own, dict) else own
        return given | completed

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [n for n, (_, default) in COMMON.items() if default is None and n not in self.facts]
        if missing:
            raise TableError(f"lacks {', '.join(missing)}", "facts")
        known = self.comparable
        for kind in KINDS.values():
            for name in self.same[kind.name]:
                if name not in known:
                    message = f"{name!r} is not a fact; facts are {', '.join(known)}"
                    raise TableError(message, "same", kind.name)
            lacking = [
                name for name in needed_windows(kind) if getattr(self.windows[kind.name], name) is None
            ]
            if lacking:
                raise TableError(f"lacks {', '.join(lacking)}", "windows", kind.name)
        for name, fact in self.facts.items():
            if name in COMMON and "type" in fact.model_fields_set:
                raise TableError(
                    "is given, but the types of the common facts are fixed", "facts", name, "type"
                )
            if name in DERIVED or (name not in COMMON and not re.fullmatch(r"[a-z][a-z0-9_]*", name)):
                raise TableError("is not a valid name", "facts", name)
        named: list[tuple[Place, str]] = [(("names", alias), name) for alias, name in self.names.items()]
        named += [(("tolerance", name), name) for name in self.tolerance]
        for n, mode in enumerate(self.detector.modes):
            named += [(("detector", "modes", n, "when", name), name) for name in mode.when]
        for n, entry in enumerate(self.zero_points):
            named += [(("zero_points", n, "when", name), name) for name in entry.when]
        named += [(("offsets", "unless", name), name) for name in self.offsets.unless]
        for place, name in named:
            if name not in known:
                raise TableError(f"{name!r} is not a fact", *place)
        for choices, allowed in (("kinds", get_args(FrameKind)), ("lamp", ("on", "off"))):
            for n, choice in enumerate(getattr(self, choices)):
                if choice.value not in allowed:
                    message = f"is {choice.value!r}, expected one of {', '.join(allowed)}"
                    raise TableError(message, choices, n, "value")
        return self

    @cached_property
    def own_facts(self) -> tuple[str, ...]:
        """Names of the additional facts that frames of this instrument have."""
        return tuple(name for name in self.facts if name not in COMMON)

    @property
    def comparable(self) -> tuple[str, ...]:
        """Names of all facts by which rules may compare frames and products."""
        return tuple(dict.fromkeys((*DERIVED, *self.fact_names)))

    @property
    def fact_names(self) -> tuple[str, ...]:
        """Names of all facts that come from a keyword."""
        return (*COMMON, *self.own_facts)

    def combined(self, kind: ProductKind) -> tuple[str, ...]:
        """Return the facts shared by the raw frames of a product; for a flat also those that a common dark requires."""
        of_darks = self.same["dark"] if kind == "flat" else ()
        return tuple(dict.fromkeys((*of_darks, *self.same[kind])))

    @property
    def section(self) -> str:
        """The section of a full frame."""
        rows, columns = self.detector.shape
        return f"[1:{columns},1:{rows}]"

    @cached_property
    def lamp_bands(self) -> tuple[str, ...]:
        """Bands whose flats are lamp on minus lamp off."""
        return tuple(name for name, band in self.bands.items() if band.flat == "lamp")

    @cached_property
    def thermal_bands(self) -> tuple[str, ...]:
        """Bands in which the heat of the calibration unit serves as the lamp: lamp off minus dark."""
        return tuple(name for name, band in self.bands.items() if band.flat == "thermal")

    @staticmethod
    def unit(fact: str) -> str:
        """Return the unit in which a fact that all instruments have is used; an empty text without one."""
        return _LABELS.get(fact, ("", ""))[1]

    def label(self, fact: str) -> tuple[str, str]:
        """Return the label of a fact in messages, and its unit."""
        label, unit = _LABELS.get(fact, (fact.replace("_", " "), ""))
        given = self.facts.get(fact)
        return (given.label or label, given.unit or unit) if given else (label, unit)

    def is_number(self, fact: str) -> bool:
        """Return whether a fact is a number."""
        return self.type_of(fact) != "text"

    def type_of(self, fact: str) -> FactType:
        """Return the type of a fact; those that are derived from several keywords are texts."""
        return COMMON[fact][0] if fact in COMMON else self.facts[fact].type if fact in self.facts else "text"

    def keyword(self, fact: str) -> str:
        """Return the keyword that messages name for a fact; for the kind, the first that determines it, if any."""
        if fact in ("filter_id", "filter"):
            first = self.wheels[0].keywords[0]
            return re.sub(r"\d+$", "n", first) if len(self.wheels) > 1 else first
        if fact == "kind":
            return next((name for choice in self.kinds for name in choice.when if name.isupper()), "")
        return self.facts[fact].keywords[0] if fact in self.facts else fact

    def filter_of(self, filter_id: str) -> str:
        """Return the name of a filter from that with component ids: ``Y_G0811`` is ``Y``."""
        plain = "&".join(self.without_component(part) for part in filter_id.split("&"))
        usual = {name.casefold(): value for name, value in self.filter_names.items()}
        return usual.get(plain.casefold(), plain)

    def zero_point(self, facts: Mapping[str, Any]) -> float | None:
        """Return the nominal zero point for a frame with these facts, mag; None if the table has none.

        It is the magnitude of a star of 1 electron per second at airmass 1.
        """
        return zero_point(self.zero_points, facts)

    def zero_point_error(self, facts: Mapping[str, Any]) -> float:
        """Return the standard error of the nominal zero point for a frame with these facts, mag."""
        return zero_point_error(self.zero_points, facts)

    def extinction(self, facts: Mapping[str, Any]) -> float:
        """Return the extinction for a frame with these facts, mag per airmass; 0 if the table has none."""
        return extinction(self.zero_points, facts)

    def standard_bands(self, band: str) -> tuple[str, ...]:
        """Return the bands of catalogues whose magnitudes stand for those of a filter, the best first."""
        own = self.bands.get(band)
        return own.standard if own is not None and own.standard else (band,)

    def without_component(self, name: str) -> str:
        """Drop a component id from a name."""
        return re.sub(self.component, "", name) if self.component else name


#: Label of a fact in messages, and its unit, unless the table has its own; default: its name.
_LABELS: Final[Mapping[str, tuple[str, str]]] = {
    "filter_id": ("filter", ""), "focal_mask": ("focal-plane mask", ""), "section": ("detector section", ""),
    "exposure_time": ("exposure", "s"), "ra": ("right ascension", "deg"), "dec": ("declination", "deg"),
    "poffset": ("offset P", "arcsec"), "qoffset": ("offset Q", "arcsec"), "pa": ("position angle", "deg"),
}  # fmt: skip

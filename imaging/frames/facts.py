"""What a frame is: the facts that the steps, the rules and the user need, read from its headers.

One function, `facts_from_headers`, turns the keywords of a file (raw, or a product that kept them) into one
typed, frozen record, by the table of its instrument (`imaging.instruments`). The record names its instrument,
which gives the numbers of the detector (`FrameFacts.readout`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imaging.frames.file_names import plain_name
from imaging.frames.header_dates import last_written
from imaging.frames.pixel_state import PixelState
from imaging.header import Header, text_of
from imaging.instruments import catalogue
from imaging.instruments.detector import Readout
from imaging.instruments.header_rules import fits
from imaging.instruments.instrument import FrameKind as Kind
from imaging.instruments.instrument import Instrument
from imaging.instruments.reading import facts_in, instrument_of, lamp_in
from imaging.kinds import KINDS

Lamp = Literal["on", "off"]


class FrameFacts(BaseModel):
    """The facts of one frame. Times are UTC, angles degrees, offsets arcsec, exposure times seconds.

    The facts that the instrument's table adds are further attributes.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    __pydantic_extra__: dict[str, str | int | float]

    name: str = Field(description="file name without a compression suffix")
    instrument: str = Field(description="name of the instrument's table")
    kind: Kind = Field(description="dark, flat, object, arc or bpm")
    observation_class: str = Field(description="science, acq, acqCal, partnerCal, dayCal or progCal")
    target: str = Field(description="the target's name")
    exposure_time: float = Field(description="exposure of one coadd, s, to the millisecond")
    coadds: int = Field(description="exposures that the controller added up")
    read_pairs: int = Field(description="read pairs of one exposure")
    read_pairs_corrected: bool = Field(
        default=False, description="the header's read pairs were wrong and were corrected"
    )
    filter_id: str = Field(description="filter with its component id, Y_G0811")
    filter: str = Field(description="filter, Y")
    focal_mask: str = Field(description="focal-plane mask, Open for imaging")
    disperser: str = Field(description="grism, Open for imaging")
    lamp: Lamp | None = Field(default=None, description="calibration lamp on or off; flats only")
    detector: str = Field(description="id of the array")
    section: str = Field(description="detector section that was read; default: the full detector")
    binning: str = Field(default="1x1", description="binning, columns x rows")
    ra: float | None = Field(default=None, description="right ascension of the target, deg")
    dec: float | None = Field(default=None, description="declination of the target, deg")
    poffset: float = Field(default=0.0, description="telescope offset P, arcsec")
    qoffset: float = Field(default=0.0, description="telescope offset Q, arcsec")
    pa: float = Field(default=0.0, description="position angle, deg")
    inport: int = Field(default=3, description="port of the instrument; 1 looks up")
    airmass: float | None = Field(default=None, description="mean airmass")
    guided: bool = Field(default=True, description="a guide probe was guiding")
    peripheral_guider: bool = Field(
        default=False, description="a peripheral probe guided: its glow is in the frame"
    )
    started: datetime = Field(description="start of the exposure")
    program: str = Field(default="", description="program id")
    observation_id: str = Field(default="", description="observation id: one sequence")
    data_label: str = Field(default="", description="unique label of the exposure")
    header_written: datetime | None = Field(default=None, description="the latest of DATE and GEM-TLM")
    quality: str = Field(default="", description="the observer's judgement")
    image_quality: str = Field(default="", description="image quality as the observer judged it")
    requested_quality: str = Field(default="", description="image quality that the program requested")
    requested_clouds: str = Field(default="", description="cloud cover that the program requested")
    processed: bool = Field(default=False, description="a product, not a raw frame")
    pixels: PixelState | None = Field(
        default=None, description="figures of the pixels; None if they were not read"
    )
    product_kind: str = Field(default="", description="dark, flat, bpm or image for a product")
    header_notes: tuple[str, ...] = Field(
        default=(), description="what was unusual about the header: repaired values, sources that disagree"
    )

    @model_validator(mode="before")
    @classmethod
    def _full_frame(cls, given: Any) -> Any:
        """Take a frame without a section for a full one."""
        if isinstance(given, dict) and "section" not in given:
            table = catalogue.find(str(given.get("instrument")))
            if table is not None:
                return given | {"section": table.section}
        return given

    @model_validator(mode="after")
    def _own_facts(self) -> Self:
        """Refuse facts that are not in the table; keep all facts of an instrument without a table."""
        table = catalogue.find(self.instrument)
        given = self.model_extra or {}
        if table is not None and set(given) != set(table.own_facts):
            wrong = ", ".join(sorted(set(given) ^ set(table.own_facts)))
            raise ValueError(
                f"a frame of {self.instrument} has the facts {table.own_facts}; unknown or missing: {wrong}"
            )
        return self

    @property
    def table(self) -> Instrument:
        """The table of the frame's instrument."""
        return catalogue.named(self.instrument)

    @property
    def readout(self) -> Readout:
        """The detector's numbers for this frame."""
        return self.table.detector.readout(self.values)

    @property
    def values(self) -> dict[str, Any]:
        """All facts by name."""
        return self.__dict__ | (self.model_extra or {})

    def value(self, fact: str) -> Any:
        """Return a fact by its name; None for one that frames of this instrument do not have."""
        return getattr(self, fact, None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the frame's header."""
        pixels = self.pixels.notes if self.pixels is not None else ()
        if not self.read_pairs_corrected:
            return (*self.header_notes, *pixels)
        keyword = self.table.keyword("read_pairs")
        note = f"{keyword} is invalid; {self.read_pairs}, from another keyword, is used instead"
        return (note, *self.header_notes, *pixels)

    @property
    def root(self) -> str:
        """The name without any suffix: S20131121S0075."""
        return self.name.removesuffix(".fits")

    @property
    def exposure(self) -> float:
        """Total exposure, s: all coadds."""
        return self.exposure_time * self.coadds

    @property
    def ended(self) -> datetime:
        """End of the exposure as the exposure time gives it (UTEND is wrong before December 2015)."""
        return self.started + timedelta(seconds=self.exposure)

    @property
    def middle(self) -> datetime:
        """Middle of the exposure."""
        return self.started + timedelta(seconds=self.exposure / 2)

    @property
    def night(self) -> date:
        """The date that the observatory gives to the night."""
        return self.night_of(self.started)

    def night_of(self, moment: datetime) -> date:
        """Return the date that the frame's observatory gives to the night of a moment."""
        return catalogue.site_of(self.instrument).night_of(moment)

    @property
    def gain(self) -> float:
        """Electrons per ADU."""
        return self.readout.gain

    @property
    def read_noise(self) -> float:
        """Read noise of the frame, all coadds, electrons."""
        return self.readout.read_noise

    @property
    def spectroscopic(self) -> bool:
        """A grism was in the beam."""
        return self.disperser != "Open"

    @property
    def tags(self) -> frozenset[str]:
        """Tags for selections, with the names used by astrodata."""
        tags = {*self.table.tags, "PROCESSED" if self.processed else "RAW"}
        if self.kind == "object":
            tags.add("SPECT" if self.spectroscopic else "IMAGE")
            if self.observation_class in self.table.unfit.acquisition:
                tags.add("ACQUISITION")
            if self.observation_class == "partnerCal":
                tags |= {"STANDARD", "CAL"}
        else:
            tags |= {self.kind.upper(), "CAL"}
        if self.kind == "flat":
            tags |= {"GCALFLAT"} if self.lamp else set()
            tags |= {"SPECT"} if self.spectroscopic else {"IMAGE"}
            if self.lamp:
                tags |= {f"LAMP{self.lamp.upper()}", f"GCAL_IR_{self.lamp.upper()}"}
        return frozenset(tags)

    def unfit(self) -> str | None:
        """Return why this frame is excluded from an imaging reduction, or None."""
        table = self.table
        unfit = table.unfit
        if self.spectroscopic and self.kind in ("object", "flat"):
            return (
                f"spectroscopy ({table.keyword('disperser')} = {self.disperser!r}); nirflow reduces imaging"
            )
        if self.kind == "arc":
            return f"an arc ({table.keyword('kind')} = 'ARC'); nirflow reduces imaging"
        if fits(self.quality, unfit.quality):
            return f"the observer judged it a failure ({table.keyword('quality')} = {self.quality!r})"
        if self.observation_class in unfit.acquisition:
            return f"an acquisition frame ({table.keyword('observation_class')} = {self.observation_class!r})"
        if self.kind == "object" and unfit.engineering and re.search(unfit.engineering, self.program):
            return f"an engineering frame ({table.keyword('program')} = {self.program!r})"
        if self.kind in ("object", "flat") and fits(self.filter, unfit.dark_filters):
            return f"no light reached the detector ({table.keyword('filter')} = {self.filter!r})"
        return None

    def first_frame(self) -> str | None:
        """Return why this frame is the first of its observation and bad for that, by its table; otherwise None."""
        pattern = self.table.unfit.first_of_observation
        if pattern is None or not re.search(pattern, self.data_label):
            return None
        keyword = self.table.keyword("data_label")
        return f"the first frame of an observation, by {keyword}, which is bad in data of {self.instrument}"


def facts_from_headers(
    primary: Mapping[str, Any], extension: Mapping[str, Any] | None = None, *, name: str
) -> FrameFacts:
    """Read the facts of a frame from its headers.

    Parameters
    ----------
    primary
        Primary header (or any mapping of keywords).
    extension
        Header of the image extension; gives the detector section, which must fit the number of pixels.
    name
        File name, for the record and for errors.

    Returns
    -------
    FrameFacts
        The facts. A frame that nirflow recognises but does not reduce (spectroscopy, acquisition) is not an
        error here: see `FrameFacts.unfit`.

    Raises
    ------
    FrameError
        If a keyword is missing or invalid, or no table describes the instrument.
    """
    name = plain_name(name)
    processed, product_kind = processing(primary)
    # The time stamp identifies a processed file: DRAGONS leaves the flat's type on a bad pixel mask.
    table = instrument_of(primary, name)
    kind = KINDS[product_kind] if product_kind else None
    facts = facts_in(
        table,
        primary,
        extension,
        name,
        kind=kind.frame_kind if kind else None,
        resampled=kind is not None and kind.is_resampled,
    )
    of_cards = [
        note for header in (primary, extension) if isinstance(header, Header) for note in header.notes
    ]
    facts["header_notes"] = tuple(dict.fromkeys((*of_cards, *facts["header_notes"])))
    lit = facts["kind"] == "flat" and not processed
    return FrameFacts(
        name=name,
        lamp=lamp_in(table, primary, facts) if lit else None,
        header_written=last_written(primary),
        processed=processed,
        product_kind=product_kind,
        **facts,
    )


def processing(primary: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether a header is that of a processed file, and its kind of product if known."""
    for kind in reversed(tuple(KINDS.values())):  # a mosaic has the mark of its stacks too
        if any(keyword in primary or text_of(primary, keyword) is not None for keyword in kind.marks):
            return True, kind.name
    return "PREPARE" in primary, ""

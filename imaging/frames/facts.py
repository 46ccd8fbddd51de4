"""What a frame is: the facts that the steps, the rules and a person need, read from its headers.

One function, `facts_from_headers`, turns the keywords of a FLAMINGOS-2 file (raw, or a product that kept
them) into one typed, frozen record; nothing else in the project reads those keywords.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from imaging.errors import FrameError
from imaging.frames.header_dates import last_written
from imaging.frames.nights import night_of
from imaging.instruments import f2
from imaging.kinds import KINDS, CombinedFrame

#: What a frame is: those that products are made of, and others.
Kind = Literal[CombinedFrame, "arc", "bpm"]
Lamp = Literal["on", "off"]

_KINDS: dict[str, Kind] = {"DARK": "dark", "FLAT": "flat", "OBJECT": "object", "ARC": "arc", "BPM": "bpm"}
#: Before this date LNRS sometimes counts something else; the pairs (LNRS, NREADS) seen are below.
_LNRS_TRUSTED_FROM = date(2015, 4, 1)
_LNRS_KNOWN_WRONG = {(2, 4), (6, 8)}
_COMPONENT = re.compile(r"_[GR]\d+\w*$")
_COMPRESSED = re.compile(r"\.(gz|bz2|fz)$")
#: Names that MOSPOS, DECKER and MASKNAME give to an open focal plane.
_OPEN_MASKS = ("Open", "None", "imaging", "")
#: What a keyword may say: wide of anything the instrument does, narrow enough for arithmetic and the store.
_FIRST_DAY, _LAST_DAY = date(2000, 1, 1), date(2100, 1, 1)
_LONGEST_EXPOSURE = 86_400.0
_MOST_COADDS = 10_000
_MOST_READS = 1_000
_PORTS = 5
_FARTHEST_OFFSET = 36_000.0


class FrameFacts(BaseModel):
    """The facts of one frame. Times are UTC, angles degrees, offsets arcsec, exposure times seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="file name without a compression suffix")
    instrument: str = Field(description="F2")
    kind: Kind = Field(description="dark, flat, object, arc or bpm")
    observation_class: str = Field(description="science, acq, acqCal, partnerCal, dayCal or progCal")
    target: str = Field(description="OBJECT: the target's name")
    exposure_time: float = Field(description="exposure of one coadd, s, to the millisecond")
    coadds: int = Field(description="exposures that the controller added up")
    read_pairs: int = Field(description="LNRS: read pairs of one exposure")
    read_pairs_corrected: bool = Field(default=False, description="LNRS was wrong and NREADS was taken")
    filter_id: str = Field(description="filter with its component id, Y_G0811")
    filter: str = Field(description="filter, Y")
    lyot: str = Field(description="Lyot stop with its component id")
    focal_mask: str = Field(description="focal-plane mask, Open for imaging")
    disperser: str = Field(description="grism, Open for imaging")
    lamp: Lamp | None = Field(default=None, description="calibration lamp on or off; flats only")
    detector: str = Field(description="DETID of the array")
    section: str = Field(default="[1:2048,1:2048]", description="detector section read out")
    binning: str = Field(default="1x1", description="binning, columns x rows")
    ra: float | None = Field(default=None, description="right ascension of the target, deg")
    dec: float | None = Field(default=None, description="declination of the target, deg")
    poffset: float = Field(default=0.0, description="telescope offset P, arcsec")
    qoffset: float = Field(default=0.0, description="telescope offset Q, arcsec")
    pa: float = Field(default=0.0, description="position angle, deg")
    inport: int = Field(default=3, description="port of the instrument; 1 looks up")
    airmass: float | None = Field(default=None, description="mean airmass")
    guided: bool = Field(default=True, description="a guide probe was guiding")
    peripheral_guider: bool = Field(default=False, description="PWFS2 guided: its glow is in the frame")
    started: datetime = Field(description="start of the exposure")
    program: str = Field(default="", description="program id")
    observation_id: str = Field(default="", description="observation id: one sequence")
    data_label: str = Field(default="", description="unique label of the exposure")
    header_written: datetime | None = Field(default=None, description="the latest of DATE and GEM-TLM")
    quality: str = Field(default="", description="RAWGEMQA: the observer's judgement")
    image_quality: str = Field(default="", description="RAWIQ")
    processed: bool = Field(default=False, description="a product, not a raw frame")
    product_kind: str = Field(default="", description="dark, flat, bpm or image for a product")

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
        """The UT date that Gemini gives to the night."""
        return night_of(self.started)

    @property
    def gain(self) -> float:
        """Electrons per ADU."""
        return f2.gain(self.read_pairs)

    @property
    def read_noise(self) -> float:
        """Read noise of the frame, all coadds, electrons."""
        return f2.read_noise(self.read_pairs, self.coadds)

    @property
    def spectroscopic(self) -> bool:
        """A grism was in the beam."""
        return self.disperser != "Open"

    @property
    def tags(self) -> frozenset[str]:
        """Tags to select by, with the names that astrodata gives them."""
        tags = {"GEMINI", "SOUTH", "F2", "PROCESSED" if self.processed else "RAW"}
        if self.kind == "object":
            tags.add("SPECT" if self.spectroscopic else "IMAGE")
            if self.observation_class in ("acq", "acqCal"):
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
        """Why this frame takes no part in an imaging reduction, or None when it does."""
        if self.spectroscopic and self.kind in ("object", "flat"):
            return f"spectroscopy (GRISM = {self.disperser!r}); nirflow reduces imaging"
        if self.kind == "arc":
            return "an arc (OBSTYPE = 'ARC'); nirflow reduces imaging"
        if self.quality.upper() in ("BAD", "FAIL"):
            return f"the observer judged it a failure (RAWGEMQA = {self.quality!r})"
        if self.observation_class in ("acq", "acqCal"):
            return f"an acquisition frame (OBSCLASS = {self.observation_class!r})"
        if self.kind == "object" and re.search(r"-(ENG|FT-ENG)\d", self.program):
            return f"an engineering frame (GEMPRGID = {self.program!r})"
        return None


class _Keywords:
    """Typed look-ups in a header that fail with the file, the keyword, the value and the remedy."""

    def __init__(self, header: Mapping[str, Any], name: str) -> None:
        self.header, self.name = header, name

    def text(self, keyword: str, default: str | None = None) -> str:
        value = self.header.get(keyword)
        if value is None or not isinstance(value, (str, int, float)):
            if default is not None:
                return default
            raise self.error(keyword, value, "a text")
        return str(value).strip()

    def number(self, keyword: str, default: float | None = None) -> float:
        value = self.header.get(keyword)
        if value is None and default is not None:
            return default
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise self.error(keyword, value, "a number") from None
        except OverflowError:
            raise self.error(keyword, value, "a finite number") from None
        if isinstance(value, bool) or not math.isfinite(number):
            raise self.error(keyword, value, "a finite number")
        return number

    def optional(self, keyword: str) -> float | None:
        """A number that only informs: None where the card is missing or holds anything else."""
        value = self.header.get(keyword)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None

    def count(self, keyword: str, most: int, default: int | None = None) -> int:
        number = self.number(keyword, default)
        if not 1 <= number <= most or number != int(number):
            raise self.error(keyword, self.header.get(keyword), f"a whole number from 1 to {most}")
        return int(number)

    def offset(self, keyword: str) -> float:
        number = self.number(keyword, 0.0)
        if abs(number) > _FARTHEST_OFFSET:
            expected = f"an offset within {_FARTHEST_OFFSET:.0f} arcsec"
            raise self.error(keyword, self.header.get(keyword), expected)
        return number

    def error(self, keyword: str, found: object, expected: str) -> FrameError:
        problem = "keyword is missing" if found is None else "keyword makes no sense"
        return FrameError(
            self.name, problem, keyword=keyword, found=found, expected=expected,
            remedy="Correct the header (for example with astropy's fitsheader) or leave the file out.",
        )  # fmt: skip


def strip_component(name: str) -> str:
    """Drop a component id: ``Y_G0811`` becomes ``Y``."""
    return _COMPONENT.sub("", name)


def plain_name(path: str) -> str:
    """The file name of ``path`` without its compression suffix."""
    return _COMPRESSED.sub("", path.replace("\\", "/").rsplit("/", 1)[-1])


def facts_from_headers(
    primary: Mapping[str, Any], extension: Mapping[str, Any] | None = None, *, name: str
) -> FrameFacts:
    """Read the facts of a frame from its headers.

    Parameters
    ----------
    primary
        Primary header (or any mapping of keywords).
    extension
        Header of the image extension; gives the detector section where it names one.
    name
        File name, for the record and for errors.

    Returns
    -------
    FrameFacts
        The facts. A frame that nirflow understands and does not reduce (spectroscopy, acquisition) is
        no error here: `FrameFacts.unfit` tells.

    Raises
    ------
    FrameError
        Where a keyword is missing or makes no sense, or the instrument is another one.
    """
    name = plain_name(name)
    keys = _Keywords(primary, name)
    instrument = keys.text("INSTRUME")
    if instrument not in f2.INSTRUMENT_NAMES:
        raise FrameError(
            name, "not a FLAMINGOS-2 frame", keyword="INSTRUME", found=instrument,
            expected="'F2' or 'Flam'", remedy="Leave the file out of the night.",
        )  # fmt: skip
    filter_id, lyot = _filter_and_lyot(keys)
    processed, product_kind = processing(primary)
    # DRAGONS leaves the flat's OBSTYPE on a bad pixel mask; its mark says what it is.
    kind: Kind = "bpm" if product_kind == "bpm" else _kind(keys, filter_id)
    started = _start(keys, kind)
    read_pairs, corrected = (1, False) if kind == "bpm" else _read_pairs(keys, started.date())
    return FrameFacts(
        name=name,
        instrument="F2",
        kind=kind,
        observation_class=keys.text("OBSCLASS", ""),
        target=keys.text("OBJECT", ""),
        exposure_time=_exposure_time(keys, kind),
        coadds=keys.count("COADDS", _MOST_COADDS) if kind != "bpm" else 1,
        read_pairs=read_pairs,
        read_pairs_corrected=corrected,
        filter_id=filter_id,
        filter="&".join(strip_component(part) for part in filter_id.split("&")),
        lyot=lyot,
        focal_mask=_focal_mask(keys),
        disperser=_disperser(keys),
        lamp=_lamp(keys) if kind == "flat" and not processed else None,
        detector=keys.text("DETID", "unknown"),
        section=str((extension or {}).get("DETSEC", "[1:2048,1:2048]")),
        ra=keys.optional("RA"),
        dec=keys.optional("DEC"),
        poffset=keys.offset("POFFSET"),
        qoffset=keys.offset("QOFFSET"),
        pa=keys.number("PA", 0.0),
        inport=keys.count("INPORT", _PORTS, default=3),
        airmass=keys.optional("AIRMASS"),
        guided=_guided(keys),
        peripheral_guider=keys.text("PWFS2_ST", "") == "guiding",
        started=started,
        program=keys.text("GEMPRGID", ""),
        observation_id=keys.text("OBSID", ""),
        data_label=keys.text("DATALAB", ""),
        header_written=last_written(primary),
        quality=keys.text("RAWGEMQA", ""),
        image_quality=keys.text("RAWIQ", ""),
        processed=processed,
        product_kind=product_kind,
    )


def _kind(keys: _Keywords, filter_id: str) -> Kind:
    obstype = keys.text("OBSTYPE").upper()
    if filter_id.upper().startswith("DK") or "&DK" in filter_id.upper():
        return "dark"
    if obstype not in _KINDS:
        raise keys.error("OBSTYPE", obstype, "one of " + ", ".join(_KINDS))
    return _KINDS[obstype]


def _start(keys: _Keywords, kind: Kind) -> datetime:
    day = keys.text("DATE-OBS")
    # A bad pixel mask that the observatory published has a date only.
    clock = keys.text("UTSTART", keys.text("TIME-OBS", "00:00:00" if kind == "bpm" else ""))
    text = day if "T" in day else f"{day}T{clock}"
    try:
        started = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise keys.error("DATE-OBS + UTSTART", text, "a date and a time, 2013-11-21 and 02:52:48.0") from None
    if not _FIRST_DAY <= started.date() <= _LAST_DAY:
        raise keys.error("DATE-OBS", day, f"a date from {_FIRST_DAY} to {_LAST_DAY}")
    return started


def _exposure_time(keys: _Keywords, kind: Kind) -> float:
    """Exposure of one coadd, s, rounded to the millisecond: frames are compared by it, and headers differ."""
    seconds = round(keys.number("EXPTIME", 0.0 if kind == "bpm" else None), 3)
    if not 0 <= seconds < _LONGEST_EXPOSURE or (seconds == 0 and kind != "bpm"):
        expected = f"a number of seconds above 0 and below {_LONGEST_EXPOSURE:.0f}"
        raise keys.error("EXPTIME", keys.header.get("EXPTIME"), expected)
    return seconds


def _read_pairs(keys: _Keywords, day: date) -> tuple[int, bool]:
    lnrs = keys.count("LNRS", _MOST_READS)
    nreads = keys.count("NREADS", _MOST_READS) if "NREADS" in keys.header else lnrs
    if nreads != lnrs:
        if day < _LNRS_TRUSTED_FROM and (lnrs, nreads) in _LNRS_KNOWN_WRONG:
            return nreads, True
        raise FrameError(
            keys.name, f"LNRS and NREADS = {nreads} disagree, so gain and read noise are unknown",
            keyword="LNRS", found=lnrs, expected="the value of NREADS",
            remedy="Find out which is right from the night log, correct the header or leave the file out.",
        )  # fmt: skip
    if lnrs not in f2.READ_NOISE:
        known = ", ".join(str(n) for n in f2.READ_NOISE)
        raise keys.error("LNRS", lnrs, f"one of {known}")
    return lnrs, False


def _filter_and_lyot(keys: _Keywords) -> tuple[str, str]:
    wheels = [
        keys.text("FILTER1", keys.text("FILT1POS", "Open")),
        keys.text("FILTER2", keys.text("FILT2POS", "Open")),
    ]
    lyot = keys.text("LYOT", keys.text("LYOTPOS", ""))
    if lyot and not lyot.startswith(("f", "GEMS", "Hart", "Open")):
        wheels.append(lyot)
    return "&".join(w for w in wheels if strip_component(w).lower() != "open") or "Open", lyot


def _focal_mask(keys: _Keywords) -> str:
    mospos = strip_component(keys.text("MOSPOS", keys.text("MASKNAME", "Open")))
    if mospos in _OPEN_MASKS:
        return "Open"
    mask = keys.text("MASKNAME", "")
    # A long slit has its name in MOSPOS and no mask: MASKNAME then says None, which is not an open plane.
    return mospos if mask in ("None", "") else "Open" if mask in _OPEN_MASKS else mask


def _disperser(keys: _Keywords) -> str:
    grism = strip_component(keys.text("GRISM", keys.text("GRISMPOS", "Open")))
    return "Open" if grism.lower() in ("open", "") else grism


def _lamp(keys: _Keywords) -> Lamp | None:
    lamp, shutter = keys.text("GCALLAMP", ""), keys.text("GCALSHUT", "").upper()
    lit = lamp.startswith(("IR", "QH"))
    if lit and shutter == "OPEN":
        return "on"
    return "off" if shutter == "CLOSED" else None


def _guided(keys: _Keywords) -> bool:
    states = [keys.text(k, "") for k in ("PWFS1_ST", "PWFS2_ST", "OIWFS_ST")]
    return not any(states) or "guiding" in states


def processing(primary: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a header is that of a processed file, and the kind of product that it is, where it says so."""
    for kind in KINDS.values():
        if any(keyword in primary for keyword in kind.marks):
            return True, kind.name
    return "PREPARE" in primary, ""

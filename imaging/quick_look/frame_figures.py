"""What is known of a frame seconds after it is complete: figures, and how each is judged."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from imaging.figures import Metrics, figure, share

#: How a figure is judged. ``not judged``: measured, but nothing was requested and its group is too small.
Verdict = Literal["good", "worse than requested", "unlike its group", "not judged", "not measurable"]
#: The worst first.
VERDICTS: Final[tuple[Verdict, ...]] = (
    "worse than requested", "unlike its group", "good", "not judged", "not measurable",
)  # fmt: skip


class FrameValues(Metrics):
    """The figures of one frame; None where one cannot be measured."""

    level: float | None = figure("median level of the usable pixels", "level", unit="electron", default=None)
    sky: float | None = figure(
        "level of the sky; with the dark signal if no dark was subtracted",
        "sky",
        unit="electron/s",
        default=None,
    )
    sky_brightness: float | None = figure(
        "sky by the nominal zero point of the instrument's table",
        "sky",
        unit="mag/arcsec2",
        digits=4,
        default=None,
    )
    seeing: float | None = figure("FWHM of the stars", "seeing", unit="arcsec", digits=2, default=None)
    seeing_at_zenith: float | None = figure(
        "the same at the zenith", "seeing at the zenith", unit="arcsec", digits=2, default=None
    )
    ellipticity: float | None = figure(
        "median of 1 - minor axis / major axis of the stars", "ellipticity", digits=2, default=None
    )
    stars: int = figure("clean stars that were measured", "stars", default=0)
    saturated: float | None = share("saturated pixels", "saturated", default=None)
    flux_ratio: float | None = figure(
        "flux of the stars over that in the reference frame of the group, of the same exposure and airmass",
        default=None,
    )
    transparency: float | None = share(
        "the same, relative to the clearest frame of the group so far", "transparency", default=None
    )
    offset: tuple[float, float] | None = Field(
        default=None, description="measured shift of the stars from the reference frame along x and y, arcsec"
    )
    pointing_error: float | None = figure(
        "distance of that shift from the one that the header's offsets ask for", "pointing error", unit="arcsec",
        digits=2, default=None,
    )  # fmt: skip


class Judged(BaseModel):
    """How a figure is judged, and against what or why not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict
    against: str = Field(
        description="what it was compared with; the reason if it could not be measured or judged"
    )


class ReferenceStars(BaseModel):
    """The stars of the first frame of a group that has enough of them: later frames are matched with these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: tuple[float, ...] = Field(description="px, counted from 0")
    y: tuple[float, ...]
    flux: tuple[float, ...] = Field(description="electrons per second")
    moved: tuple[float, float] = Field(
        description="shift of stars by the telescope's offsets in its header, px"
    )
    airmass: float | None = None


class FrameFigures(BaseModel):
    """A frame, its figures and how they are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str = Field(description="identity of the frame")
    instrument: str = ""
    kind: str = Field(default="", description="dark, flat, object, arc")
    filter: str = ""
    group: str = Field(default="", description="name of its sequence; empty for a frame that belongs to none")
    label: str = Field(default="", description="the sequence as an observer would name it")
    night: date
    started: datetime
    exposure: float = Field(default=0.0, description="all coadds, s")
    airmass: float | None = None
    calibrations: tuple[str, ...] = Field(
        default=(), description="names of the calibrations that were applied"
    )
    uncalibrated: str = Field(
        default="", description="which calibrations were missing, and why; empty if none"
    )
    values: FrameValues = FrameValues()
    judged: dict[str, Judged] = Field(default_factory=dict)
    problem: str = Field(default="", description="why it could not be measured at all")
    note: str = Field(default="", description="why the frame is not reduced, by its headers")
    reference: ReferenceStars | None = None
    measured_at: datetime | None = None
    seconds: float | None = Field(
        default=None, description="from the last change of the file to the verdict, s"
    )

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of its figures."""
        if self.problem:
            return "not measurable"
        given = {one.verdict for one in self.judged.values()}
        return next((one for one in VERDICTS if one in given), "not measurable")

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is wrong with it, each with the figure that it concerns."""
        wrong = VERDICTS[:2]
        return tuple(
            f"{name.replace('_', ' ')} {one.verdict} ({one.against})"
            for name, one in self.judged.items()
            if one.verdict in wrong
        )

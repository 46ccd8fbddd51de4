"""The night to simulate: one frozen record, with the tutorial's night as default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self

from pydantic import field_validator, model_validator

from imaging.parameters import StepParameters, parameter
from imaging.simulator import camera
from imaging.simulator.disturbances.conditions import Disturbances
from imaging.simulator.disturbances.drawn import course

Band = Literal["Y", "J", "H", "Ks", "K-red"]
Compression = Literal["none", "gz", "bz2"]


@dataclass(frozen=True)
class BandDefaults:
    """Values that differ between bands; rates are at response 1.

    The sky of Y and its lamp levels are those of public frames; the others are plausible, not measured.
    """

    filter_id: str
    wavelength: float  #: Angstrom
    science_time: float  #: s
    science_reads: int
    flat_time: float  #: s
    sky: float  #: e-/s/pixel
    lamp: float  #: e-/s/pixel of the lamp alone; 0 where the flats need no lamp
    thermal: float  #: e-/s/pixel of the warm calibration unit with its shutter closed


BANDS: Final[dict[str, BandDefaults]] = {
    "Y": BandDefaults("Y_G0811", 10200.0, 120.0, 8, 20.0, 23.5, 1130.0, 37.0),
    "J": BandDefaults("J_G0802", 12550.0, 60.0, 8, 20.0, 100.0, 1130.0, 37.0),
    "H": BandDefaults("H_G0803", 16310.0, 15.0, 4, 20.0, 600.0, 1130.0, 60.0),
    "Ks": BandDefaults("Ks_G0804", 21570.0, 8.0, 4, 2.0, 800.0, 0.0, 11000.0),
    "K-red": BandDefaults("K-red_G0814", 23100.0, 5.0, 1, 2.0, 1400.0, 0.0, 11000.0),
}


class CalmNight(StepParameters):
    """A simulated night without disturbances.

    Values of None take the band's default (`BANDS`) or scale with the size of the array.
    """

    band: Band = parameter("Y", "filter of the science frames and flats")
    seed: int = parameter(20131121, "seed of every random number; the same seed gives the same bytes", ge=0)
    detector_seed: int | None = parameter(
        None,
        "seed of the array alone, so that several nights have the same one; None: that of the night",
        ge=0,
    )
    field_seed: int | None = parameter(
        None, "seed of the stars and galaxies alone, for several nights of the same field; None: that of the night",
        ge=0,
    )  # fmt: skip
    days: int = parameter(
        0, "how much later than the tutorial's night, in names and times", unit="day", ge=0, le=20000
    )
    first: int = parameter(0, "how much higher the file numbers are than the tutorial's", ge=0, le=1000)
    minutes: float = parameter(
        0.0, "how much later the frames start than the tutorial's", unit="min", ge=0, le=1440
    )
    size: int = parameter(camera.SHAPE[0], "rows and columns of the array", unit="pixel", ge=128, le=4096)
    compression: Compression = parameter("none", "compression of the raw files")

    n_science: int = parameter(9, "dithered science frames", ge=0)
    n_darks: int = parameter(10, "darks of the science frames' exposure time", ge=0)
    n_short_darks: int = parameter(7, "short darks, for the bad pixel mask", ge=0)
    n_lamp_on: int = parameter(4, "lamp-on flats; not used in the K bands", ge=0)
    n_lamp_off: int = parameter(6, "lamp-off flats", ge=0)
    science_time: float | None = parameter(None, "exposure of a science frame and its darks", unit="s", gt=0)
    short_dark_time: float = parameter(2.0, "exposure of a short dark", unit="s", gt=0)
    flat_time: float | None = parameter(None, "exposure of a flat", unit="s", gt=0)
    science_reads: int | None = parameter(None, "read pairs (LNRS) of science frames and their darks")
    short_dark_reads: int = parameter(1, "read pairs of short darks")
    flat_reads: int = parameter(1, "read pairs of flats")
    coadds: int = parameter(1, "coadds of science frames and their darks", ge=1, le=100)

    sky: float | None = parameter(None, "mean sky at response 1", unit="e-/s/pixel", ge=0)
    sky_variation: float = parameter(0.03, "amplitude of the sky's change in time, relative", ge=0, lt=1)
    sky_gradient: float = parameter(0.01, "sky's slope from the centre to an edge, relative", ge=0, lt=0.5)
    transparency_rms: float = parameter(0.02, "rms of the frames' transparency about 1", ge=0, lt=0.2)
    seeing: float = parameter(0.7, "mean full width of a star at half maximum", unit="arcsec", gt=0.3, lt=3)
    seeing_rms: float = parameter(0.03, "rms of the seeing from frame to frame, relative", ge=0, lt=0.3)
    moffat_beta: float = parameter(3.5, "exponent of the stars' Moffat profile", gt=1.5, le=10)
    lamp_drift: float = parameter(0.003, "rms of the lamp from frame to frame, relative", ge=0, lt=0.1)

    n_bright: int | None = parameter(None, "bright isolated stars; None: 45 at full size", ge=0)
    n_saturated: int | None = parameter(None, "stars that saturate; None: 4 at full size", ge=0)
    n_faint: int | None = parameter(None, "faint stars; None: 900 at full size", ge=0)
    n_stars: int = parameter(
        0, "further stars, of every brightness from the saturated to the faintest, anywhere", ge=0
    )
    n_galaxies: int | None = parameter(None, "galaxies; None: 350 at full size", ge=0)
    dither: float | None = parameter(
        None, "step of the dither grid; None: 20 at full size, at least 7", unit="arcsec", ge=0
    )
    pointing_rms: float = parameter(
        0.1, "rms of the telescope about the offset in P and Q", unit="arcsec", ge=0
    )
    wcs_rms: float = parameter(0.25, "rms of each coordinate of a header's WCS", unit="arcsec", ge=0)
    stale_wcs: int | None = parameter(
        None, "index of the science frame that carries the previous frame's WCS (1 is the second)", ge=1
    )

    pedestal: float = parameter(65.0, "level without shot noise in every frame", unit="e-")
    dark_current: float = parameter(0.33, "median dark current", unit="e-/s/pixel", ge=0)
    pixel_flat_rms: float = parameter(0.015, "rms of the pixel-to-pixel response", ge=0, lt=0.1)
    large_scale_flat: float = parameter(0.04, "amplitude of the smooth response", ge=0, lt=0.2)
    cosmic_rate: float = parameter(30.0, "cosmic rays on a full-size array", unit="1/min", ge=0)
    defects: float = parameter(1.0, "number of defective pixels relative to the default", ge=0, le=10)
    centre: tuple[float, float] | None = parameter(
        None, "centre (x, y; from 0) of the circle of light; None: the usual one, scaled", unit="pixel"
    )
    radius: float | None = parameter(
        None, "radius of the circle of light; None: the usual one, scaled", unit="pixel", gt=0
    )

    @field_validator("science_reads", "short_dark_reads", "flat_reads")
    @classmethod
    def _known_read_mode(cls, value: int | None) -> int | None:
        if value is not None and value not in camera.READ_PAIRS:
            raise ValueError(f"read pairs are one of {', '.join(map(str, camera.READ_PAIRS))}, not {value}")
        return value

    @model_validator(mode="after")
    def _stale_frame_exists(self) -> Self:
        if self.stale_wcs is not None and self.stale_wcs >= self.n_science:
            raise ValueError(
                f"stale_wcs = {self.stale_wcs}, but the night has {self.n_science} science frames"
            )
        return self

    @property
    def defaults(self) -> BandDefaults:
        """The band's own values."""
        return BANDS[self.band]

    @property
    def thermal(self) -> bool:
        """Flats are lamp-offs minus darks (K), not lamp-ons minus lamp-offs."""
        return self.band in camera.THERMAL_BANDS

    @property
    def exposure_time(self) -> float:
        """Exposure of one coadd of a science frame, s."""
        return self.science_time or self.defaults.science_time

    @property
    def flat_exposure(self) -> float:
        """Exposure of a flat, s."""
        return self.flat_time or self.defaults.flat_time

    @property
    def read_pairs(self) -> int:
        """Read pairs of science frames and their darks."""
        return self.science_reads or self.defaults.science_reads

    @property
    def sky_rate(self) -> float:
        """Mean sky at response 1, e-/s/pixel."""
        return self.defaults.sky if self.sky is None else self.sky

    @property
    def scale(self) -> float:
        """Width of the array relative to the real one's."""
        return self.size / camera.SHAPE[0]

    @property
    def dither_step(self) -> float:
        """Step of the dither grid, arcsec: in proportion to the array, but well above a star's width."""
        return max(7.0, 20.0 * self.scale) if self.dither is None else self.dither

    @property
    def circle(self) -> tuple[float, float, float]:
        """Centre x, y (from 0) and radius of the circle of light, pixels."""
        x, y = self.centre or (
            camera.ILLUMINATED_CENTRE[0] * self.scale,
            camera.ILLUMINATED_CENTRE[1] * self.scale,
        )
        return x, y, self.radius or camera.ILLUMINATED_RADIUS * self.scale

    @property
    def fwhm(self) -> float:
        """Mean full width of a star at half maximum, pixels."""
        return self.seeing / SKY_SCALE

    def source_counts(self) -> tuple[int, int, int, int]:
        """Return the bright, saturated and faint stars, and galaxies.

        The number of bright stars scales with the width of the array and that of the others with its area, so
        that a small array still has stars for alignment and measurements.
        """
        area = self.scale**2
        usual = (
            max(12, round(45 * self.scale)),
            max(1, round(4 * self.scale)),
            max(15, round(900 * area)),
            max(6, round(350 * area)),
        )
        given = (self.n_bright, self.n_saturated, self.n_faint, self.n_galaxies)
        return tuple(u if g is None else g for u, g in zip(usual, given, strict=True))  # type: ignore[return-value]


class NightParameters(Disturbances, CalmNight):
    """One simulated night. Without arguments: the tutorial's Y night at full size, without disturbances."""

    @model_validator(mode="after")
    def _disturbed_frames_exist(self) -> Self:
        for name in ("trail", "aborted", "half_unread", "unguided", "quadrant_off"):
            index = getattr(self, name)
            if index is not None and index >= self.n_science:
                raise ValueError(f"{name} = {index}, but the night has {self.n_science} science frames")
        for name, low, high in (("seeing_course", 0.2, 5.0), ("transparency_course", 0.02, 2.0)):
            values = getattr(self, name)
            if values is None:
                continue
            course(values, self.n_science, self.seed)
            if not all(low <= value <= high for value in values):
                raise ValueError(f"{name} has values between {low:g} and {high:g}")
        return self


#: Pixel scale of the real files' WCS and PIXSCALE card, arcsec.
SKY_SCALE: Final = 0.1792

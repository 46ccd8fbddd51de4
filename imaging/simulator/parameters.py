"""The night to simulate: one frozen record, with the tutorial's night as default."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, Literal, Self

from pydantic import model_validator

from imaging.errors import NirflowError
from imaging.instruments import catalogue
from imaging.parameters import StepParameters, parameter
from imaging.simulator.camera import Camera, SkyAxes
from imaging.simulator.disturbances.conditions import Disturbances
from imaging.simulator.disturbances.drawn import course
from imaging.simulator.plans.frame import BandDefaults
from imaging.simulator.plans.known_plans import USUAL, plan_of
from imaging.simulator.plans.plan_model import Plan
from imaging.simulator.reference.catalogue_conditions import CatalogueConditions

Compression = Literal["none", "gz", "bz2"]
#: Width of the array, pixels, for which the numbers of sources are given.
_REFERENCE_WIDTH: Final = 2048
#: Pixel scale, arcsec, for which the steps of the dither grid, and numbers of stars, are given.
REFERENCE_SCALE: Final = 0.1792

#: Smallest step of the dither grid, arcsec: wings of stars, also those that adaptive optics leave, reach as far as the
#: seeing, whatever the pixel scale.
_LEAST_STEP: Final = 4.0


class CalmNight(StepParameters):
    """A simulated night without disturbances.

    Values of None take the band's default or scale with the size of the array. An instrument's plan has further
    defaults (`imaging.simulator.plans`).
    """

    instrument: str = parameter(USUAL, "instrument, by the name of its table")
    setup: tuple[str, ...] = parameter(
        (), "facts of all frames that differ from the plan's: camera=f14, well_depth=Deep"
    )
    band: str = parameter("Y", "filter of the science frames and flats")
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
    size: int = parameter(
        2048, "rows and columns that are read: the array, or its centre if the instrument has subarrays",
        unit="pixel", ge=128, le=4096,
    )  # fmt: skip
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
    seeing: float = parameter(0.7, "mean full width of a star at half maximum", unit="arcsec", gt=0.02, lt=3)
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
        None, "step of the dither grid; None: in proportion to the field, 20 for FLAMINGOS-2, at least 4",
        unit="arcsec", ge=0,
    )  # fmt: skip
    field_east: float = parameter(
        0.0, "how far East of the field's stars the telescope points, for tiles of a mosaic", unit="arcsec"
    )
    field_north: float = parameter(0.0, "how far North of them it points", unit="arcsec")
    field_margin: float = parameter(
        0.0,
        "how much further to all sides there are stars and galaxies that are anywhere",
        unit="arcsec",
        ge=0,
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

    @model_validator(mode="before")
    @classmethod
    def _plan_defaults(cls, given: Any) -> Any:
        """Take the missing values from the instrument's plan."""
        if not isinstance(given, Mapping):
            return given
        name = given.get("instrument", USUAL)
        table = catalogue.find(name) if isinstance(name, str) else None
        if table is None:
            return given
        return {"size": table.detector.shape[0]} | dict(plan_of(table.name).defaults) | dict(given)

    @model_validator(mode="after")
    def _observable(self) -> Self:
        """Refuse a band, a size, a setup or read pairs that the instrument does not have."""
        try:
            table = catalogue.named(self.instrument)
        except NirflowError as error:
            raise ValueError(str(error)) from None
        if self.band not in self.plan.bands:
            raise ValueError(f"band is one of {', '.join(self.plan.bands)}, not {self.band}")
        detector = table.detector
        if detector.subarrays and (self.size, self.size) not in (detector.shape, *detector.subarrays):
            sizes = ", ".join(str(rows) for rows, _ in (detector.shape, *detector.subarrays))
            raise ValueError(f"size is one of {sizes}, not {self.size}")
        for text in self.setup:
            name, sign, _ = text.partition("=")
            if not sign or name not in table.fact_names:
                raise ValueError(f"setup has {text!r}, which is not a fact of {table.name} with its value")
        lacking = detector.missing({"read_pairs": self.read_pairs, **self.camera.facts})
        if lacking is not None and lacking[0] != "read_noise":
            raise ValueError(f"the table of {table.name} has no {lacking[0]} for this setup: {lacking[1]}")
        known = self.camera.read_pairs
        for value in (self.science_reads, self.short_dark_reads, self.flat_reads):
            if known and value is not None and value not in known:
                raise ValueError(f"read pairs are one of {', '.join(map(str, known))}, not {value}")
        return self

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
        return self.plan.bands[self.band]

    @cached_property
    def plan(self) -> Plan:
        """What is observed with the instrument."""
        return plan_of(self.instrument)

    @cached_property
    def camera(self) -> Camera:
        """The instrument with the facts of its frames."""
        table = catalogue.named(self.instrument)
        facts: dict[str, Any] = dict(self.plan.setup)
        for text in self.setup:
            name, _, value = text.partition("=")
            facts[name.strip()] = int(value) if table.is_number(name.strip()) else value.strip()
        for pair in list(facts.items()):
            facts |= {
                name: value for name, value in self.plan.linked.get(pair, {}).items() if name != "read_pairs"
            }
        if table.detector.subarrays:
            low = [(n - self.size) // 2 for n in table.detector.shape]
            facts["section"] = f"[{low[1] + 1}:{low[1] + self.size},{low[0] + 1}:{low[0] + self.size}]"
        return Camera(table, facts, self.size, self.plan.sky_scale)

    @property
    def axes(self) -> SkyAxes:
        """How the sky lies on the array."""
        return self.camera.axes

    @cached_property
    def _linked_reads(self) -> int | None:
        """Read pairs that follow from the setup."""
        found = [self.plan.linked.get(pair, {}).get("read_pairs") for pair in self.camera.facts.items()]
        return next((int(n) for n in found if n is not None), None)

    @property
    def reads_of_darks(self) -> int:
        """Read pairs of short darks."""
        return self._linked_reads or self.short_dark_reads

    @property
    def reads_of_flats(self) -> int:
        """Read pairs of flats."""
        return self._linked_reads or self.flat_reads

    @property
    def thermal(self) -> bool:
        """Flats are lamp-offs minus darks (K), not lamp-ons minus lamp-offs."""
        return self.band in self.camera.instrument.thermal_bands

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
        return self._linked_reads or self.science_reads or self.defaults.science_reads

    @property
    def sky_rate(self) -> float:
        """Mean sky at response 1, e-/s/pixel."""
        if self.sky is not None:
            return self.sky
        of_bands = self.plan.sky_scale_of_bands
        return self.defaults.sky * ((self.axes.scale / of_bands) ** 2 if of_bands else 1.0)

    @property
    def scale(self) -> float:
        """Width of the array relative to the real one's."""
        return self.size / self.camera.shape[0]

    @property
    def dither_step(self) -> float:
        """Step of the dither grid, arcsec: in proportion to the array, but well above a star's width."""
        usual = max(7.0, 20.0 * self.size / _REFERENCE_WIDTH) * (self.axes.scale / REFERENCE_SCALE)
        return max(_LEAST_STEP, usual) if self.dither is None else self.dither

    @property
    def circle(self) -> tuple[float, float, float]:
        """Centre x, y (from 0) and radius of the circle of light, pixels."""
        usual = self.camera.circle
        x, y = self.centre or (usual[0] * self.scale, usual[1] * self.scale)
        return x, y, self.radius or usual[2] * self.scale

    @property
    def fwhm(self) -> float:
        """Mean full width of a star at half maximum, pixels."""
        return self.seeing / self.axes.scale

    def source_counts(self) -> tuple[int, int, int, int]:
        """Return the bright, saturated and faint stars, and galaxies.

        The number of bright stars scales with the width of the array, so that a small one still has stars for
        alignment and measurements; that of the faint ones and galaxies with its area on the sky.
        """
        width = self.size / _REFERENCE_WIDTH
        area = width**2 * (self.axes.scale / REFERENCE_SCALE) ** 2
        usual = (
            max(12, round(45 * width)),
            max(1, round(4 * width)),
            max(15, round(900 * area)),
            max(6, round(350 * area)),
        )
        given = (self.n_bright, self.n_saturated, self.n_faint, self.n_galaxies)
        return tuple(u if g is None else g for u, g in zip(usual, given, strict=True))  # type: ignore[return-value]


class NightParameters(CatalogueConditions, Disturbances, CalmNight):
    """One simulated night. Without arguments: the tutorial's Y night at full size, without disturbances."""

    @model_validator(mode="after")
    def _disturbed_frames_exist(self) -> Self:
        if self.pattern_rms and self.camera.instrument.detector.pattern is None:
            raise ValueError(
                f"pattern_rms needs the pattern of the table, which {self.instrument} does not have"
            )
        for name in ("trail", "aborted", "half_unread", "unguided", "quadrant_off"):
            index = getattr(self, name)
            if index is not None and index >= self.n_science:
                raise ValueError(f"{name} = {index}, but the night has {self.n_science} science frames")
        for name, low, high in (("seeing_course", 0.02, 5.0), ("transparency_course", 0.02, 2.0)):
            values = getattr(self, name)
            if values is None:
                continue
            course(values, self.n_science, self.seed)
            if not all(low <= value <= high for value in values):
                raise ValueError(f"{name} has values between {low:g} and {high:g}")
        return self

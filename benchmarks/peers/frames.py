"""Sets of calibration frames in memory: the simulator's detector, with the variations of real nights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imaging.frames.facts import facts_from_headers
from imaging.simulator.detector import Detector, Light, cosmic_rays, expose, make_detector
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.frame import PlannedFrame, Role

SetName = Literal["darks", "short darks", "lamp-ons", "lamp-offs", "thermal lamp-offs"]
#: How the frames of each set are exposed: role, band, seconds, read pairs, whether the lamp shines.
SETS: Final[dict[SetName, tuple[Role, Literal["Y", "Ks"], float, int, bool]]] = {
    "darks": ("dark", "Y", 120.0, 8, False),
    "short darks": ("short_dark", "Y", 2.0, 1, False),
    "lamp-ons": ("lamp_on", "Y", 20.0, 1, True),
    "lamp-offs": ("lamp_off", "Y", 20.0, 1, False),
    "thermal lamp-offs": ("lamp_off", "Ks", 2.0, 1, False),
}
#: Sets whose frames are compared relative to their light.
LIT: Final = ("lamp-ons", "thermal lamp-offs")
_CHANNELS: Final = 32
_STARTED: Final = datetime(2013, 11, 21, tzinfo=UTC)


@dataclass(frozen=True)
class Variations:
    """How good frames of one set differ. All but the fractions in electrons, rms from frame to frame.

    Attributes
    ----------
    light
        Relative level of the lamp, or of the calibration unit's heat.
    slope
        Relative slope of the light from the centre to an edge.
    bias
        Level.
    channels, rows
        Offsets of the readout's channels, and of rows.
    dark_current
        Relative dark current (the temperature of the detector).
    """

    light: float = 0.03
    slope: float = 0.003
    bias: float = 2.0
    channels: float = 4.0
    rows: float = 1.5
    dark_current: float = 0.03


class MemoryFrame:
    """A raw frame in memory, as `imaging.calibrations.raw_stack.RawFrame` requires."""

    def __init__(self, adu: NDArray[Any], headers: tuple[Any, Any], name: str) -> None:
        self.adu, self.name = adu, name
        self.primary, self.extension = headers
        self.facts = facts_from_headers(self.primary, self.extension, name=name)
        self.shape: tuple[int, int] = (adu.shape[0], adu.shape[1])

    def rows(self, rows: slice | None = None) -> NDArray[Any]:
        """Return the ADU of some rows."""
        return self.adu[rows or slice(None)].copy()

    def changed(self, adu: NDArray[Any]) -> MemoryFrame:
        """Return the same frame with other pixels."""
        return MemoryFrame(adu, (self.primary, self.extension), self.name)


class PartialFrame(MemoryFrame):
    """A raw frame of which only some rows exist: those that a comparison samples.

    Parameters
    ----------
    adu, headers, name
        As for a `MemoryFrame`, with these rows.
    lines
        Their numbers in the frame, ascending.
    """

    def __init__(
        self, adu: NDArray[Any], headers: tuple[Any, Any], name: str, lines: NDArray[np.intp]
    ) -> None:
        super().__init__(adu, headers, name)
        self.shape, self._lines = (adu.shape[1], adu.shape[1]), lines

    def rows(self, rows: slice | None = None) -> NDArray[Any]:
        """Return the ADU of some rows, all of which exist."""
        assert rows is not None
        first, end = np.searchsorted(self._lines, (rows.start, rows.stop))
        assert end - first == rows.stop - rows.start
        return self.adu[first:end].copy()


class Camera:
    """A detector that exposes frames of any set.

    Parameters
    ----------
    size
        Rows and columns.
    seed
        Of the array and of all variations.
    variations
        How frames of a set differ.
    lines
        Rows that are read out; default: all.
    """

    def __init__(
        self, size: int, seed: int, variations: Variations, lines: NDArray[np.intp] | None = None
    ) -> None:
        self.parameters = {band: NightParameters(band=band, size=size, seed=seed) for band in ("Y", "Ks")}
        detector: Detector = make_detector(self.parameters["Y"])
        self._lines = lines
        if lines is not None:
            planes = (getattr(detector, field.name)[lines] for field in fields(detector))
            detector = Detector(*planes)
        self.detector, self.variations = detector, variations
        self._dark_sky = np.zeros(detector.dark.shape, np.float32)
        self._seed, self._taken = seed, 0

    def frame(
        self, name: SetName, *, seconds: float | None = None, light: float = 1.0,
        respond: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None, rays: float = 1.0,
    ) -> MemoryFrame:  # fmt: skip
        """Expose a frame of a set.

        Parameters
        ----------
        name
            The set.
        seconds
            True exposure time, if the header is wrong.
        light
            Relative level of the lamp or of the calibration unit's heat.
        respond
            Changes the response, as another filter would.
        rays
            Relative number of cosmic rays.
        """
        role, band, nominal, pairs, lamp = SETS[name]
        parameters, vary = self.parameters[band], self.variations
        self._taken += 1
        rng = np.random.default_rng([self._seed, self._taken])
        seconds, size = nominal if seconds is None else seconds, parameters.size
        level = 0.0
        if "lamp" in role:
            level = parameters.defaults.thermal * (1 + vary.light * _tame(rng))
            level += parameters.defaults.lamp * (1 + vary.light * _tame(rng)) if lamp else 0.0
        current = np.float32(1 + vary.dark_current * _tame(rng))
        channels = np.repeat(rng.normal(0, vary.channels, _CHANNELS), -(-size // _CHANNELS))[:size]
        offset = self.detector.offset + (
            vary.bias * _tame(rng)
            + channels[np.newaxis]
            + rng.normal(0, vary.rows, (len(self.detector.dark), 1))
        ).astype(np.float32)
        response = self.detector.response if respond is None else respond(self.detector.response)
        hits = rays * parameters.cosmic_rate * seconds / 60.0 * parameters.scale**2
        adu = expose(
            Detector(self.detector.dark * current, offset, response, self.detector.illuminated, self.detector.defect),
            Light(level * light, vary.slope * _tame(rng), vary.slope * _tame(rng)),
            camera=parameters.camera,
            scene=self._dark_sky,
            exposure_time=seconds,
            read_pairs=pairs,
            coadds=1,
            key=int(rng.integers(0, 2**63)),
            hits=self._read_out(*cosmic_rays(rng, size, hits)),
        )  # fmt: skip
        root = f"S20131121S{self._taken:04d}"
        planned = PlannedFrame(
            root, role, self._taken, _STARTED + timedelta(minutes=3 * self._taken), nominal, pairs, 1
        )
        headers, file = parameters.plan.headers(parameters.plan, parameters, planned), f"{root}.fits"
        if self._lines is None:
            return MemoryFrame(adu, headers, file)
        return PartialFrame(adu, headers, file, self._lines)

    def _read_out(
        self, pixels: NDArray[np.int64], electrons: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the cosmic rays that hit the rows that are read out."""
        if self._lines is None:
            return pixels, electrons
        width = self.detector.dark.shape[1]
        line = np.searchsorted(self._lines, pixels // width)
        hit = self._lines[np.minimum(line, self._lines.size - 1)] == pixels // width
        return (line * width + pixels % width)[hit], electrons[hit]


def _tame(rng: np.random.Generator) -> float:
    """Return a normal deviate without its far tails: the variations of a working instrument are bounded."""
    return float(np.clip(rng.standard_normal(), -2.5, 2.5))

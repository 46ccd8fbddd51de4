"""The truth of a simulated night: written next to its raw files, loaded plane by plane."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imaging.errors import FrameError
from imaging.io.atomic import write_complete
from imaging.simulator.camera import Camera
from imaging.simulator.detector import Detector, Well
from imaging.simulator.disturbances.affected import AffectedPixels, affected_path, read_affected
from imaging.simulator.disturbances.drawn import FrameDisturbance
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.frame import Role

PlaneName = Literal["DARK", "OFFSET", "RESPONSE", "ILLUMINATED", "DEFECT", "BPM", "MARGIN"]
#: Limits of a bad pixel mask: stacked short dark in electrons, normalised flat.
SHORT_DARK_LIMITS: Final = (-150.0, 3050.0)
FLAT_LIMITS: Final = (0.68, 1.28)
_NIGHT, _FRAMES, _SOURCES, _PLANES = "night.json", "frames.json", "sources.ecsv", "detector.fits"
#: Name of the catalogue of reference stars next to the truth.
CATALOGUE: Final = "catalogue.fits"


class FrameTruth(BaseModel):
    """The truth of one frame. Light levels are at response 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str = Field(description="S20131121S0075")
    file: str = Field(description="file name, with its compression suffix")
    role: Role
    number: int = Field(description="index in its set")
    exposure_time: float = Field(description="exposure of one coadd, s")
    coadds: int
    read_pairs: int
    gain: float = Field(description="electrons, of all coadds, per ADU")
    read_noise: float = Field(description="of all coadds, electrons")
    light_time: float = Field(description="time for which a coadd collects light, s")
    unsettled: float = Field(
        default=0.0, description="level of a first frame that the array has not settled for, electrons"
    )
    left_out: bool = Field(default=False, description="a first frame, which a reduction leaves out")
    level: float = Field(description="light at the array's centre, e-/s/pixel")
    slope_x: float = Field(description="relative change of the light from the centre to the edge in x")
    slope_y: float = Field(description="relative change of the light from the centre to the edge in y")
    transparency: float = Field(default=1.0, description="of the sources")
    fwhm: float | None = Field(default=None, description="full width of a star at half maximum, pixels")
    pointing: tuple[float, float] | None = Field(default=None, description="true offset (P, Q), arcsec")
    field_centre: tuple[float, float] | None = Field(
        default=None, description="pixel (x, y from 0) of the field's centre"
    )
    wcs_error: tuple[float, float] | None = Field(
        default=None, description="offset of the header's WCS minus the true offset (P, Q), arcsec"
    )

    disturbance: FrameDisturbance = Field(default=FrameDisturbance(), description="none in a calm night")

    @property
    def exposure(self) -> float:
        """Total exposure, s."""
        return self.exposure_time * self.coadds

    @property
    def throughput(self) -> float:
        """Light of the sources in the frame relative to a complete exposure at transparency 1."""
        return self.transparency * self.disturbance.exposed

    @property
    def read_variance(self) -> float:
        """Variance of read noise and of rounding to ADU, electrons squared."""
        return float(self.read_noise**2 + self.gain**2 / 12)

    @property
    def time_scale(self) -> float:
        """Exposure time over the time for which light was collected, which corrected values are scaled by."""
        return self.exposure_time / self.light_time


class NightTruth:
    """The truth of a night in a folder; planes are read on demand and cached.

    Attributes
    ----------
    folder
        The truth's folder.
    parameters
        Parameters of the night.
    frames
        One `FrameTruth` for each raw file, in the order of the names.
    """

    def __init__(self, folder: Path, parameters: NightParameters, frames: tuple[FrameTruth, ...]) -> None:
        self.folder, self.parameters, self.frames = folder, parameters, frames
        self._planes: dict[str, NDArray[Any]] = {}

    @property
    def catalogue(self) -> Path:
        """The catalogue of reference stars of the field (see `imaging.simulator.reference.draw_catalogue`)."""
        return self.folder / CATALOGUE

    @cached_property
    def sources(self) -> Table:
        """The sources (see `imaging.simulator.star_field.make_sources`): ra, dec are true, ICRS, at the night."""
        return Table.read(self.folder / _SOURCES, format="ascii.ecsv")

    def plane(self, name: PlaneName) -> NDArray[Any]:
        """Return a plane of the detector's truth, shape (size, size).

        DARK (e-/s), OFFSET (e-), RESPONSE, ILLUMINATED (bool), DEFECT (bits of `Defect`), BPM (uint8, 1 where
        the true value exceeds a limit) and MARGIN (noise sigmas of the stacks by which the nearest limit is
        exceeded; negative inside the limits).
        """
        if name not in self._planes:
            plane = fits.getdata(self.folder / _PLANES, name)
            plane = plane.astype(plane.dtype.newbyteorder("="), copy=False)
            self._planes[name] = plane.astype(bool) if name == "ILLUMINATED" else plane
        return self._planes[name]

    def of_role(self, role: Role) -> tuple[FrameTruth, ...]:
        """Return the frames of one set, also those that a reduction leaves out."""
        return tuple(frame for frame in self.frames if frame.role == role)

    @property
    def science(self) -> tuple[FrameTruth, ...]:
        """The science frames."""
        return self.of_role("science")

    def frame(self, name: str) -> FrameTruth:
        """Return the frame with a file name or root; any suffix is ignored."""
        root = Path(name).name.split(".")[0].split("_")[0]
        for frame in self.frames:
            if frame.root == root:
                return frame
        raise FrameError(
            name,
            f"is not a frame of the simulated night in {self.folder.parent}",
            remedy=f"Its frames are {', '.join(f.root for f in self.frames)}.",
        )

    def affected(self, frame: FrameTruth) -> AffectedPixels:
        """Return what affects the pixels of a disturbed frame, and by how much."""
        return read_affected(affected_path(self.folder, frame.root), self.parameters.size)

    def raw_paths(self) -> list[Path]:
        """Return the raw files."""
        return [self.folder.parent / frame.file for frame in self.frames]


def write_truth(
    folder: Path,
    parameters: NightParameters,
    frames: tuple[FrameTruth, ...],
    sources: Table,
    detector: Detector,
) -> NightTruth:
    """Write the truth of a night as ``folder`` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = StringIO()
    sources.write(listed, format="ascii.ecsv")
    texts = {
        _NIGHT: parameters.model_dump_json(indent=1) + "\n",
        _FRAMES: json.dumps([f.model_dump(mode="json") for f in frames], indent=1) + "\n",
        _SOURCES: listed.getvalue(),
    }
    for name, text in texts.items():
        write_complete(folder / name, [text.encode()], sync=False)
    margin = bpm_margin(detector, frames, parameters.camera)
    planes: Mapping[str, NDArray[Any]] = {
        "DARK": detector.dark,
        "OFFSET": detector.offset,
        "RESPONSE": detector.response,
        "ILLUMINATED": detector.illuminated.astype(np.uint8),
        "DEFECT": detector.defect,
        "BPM": ((margin > 0) & detector.illuminated).astype(np.uint8),
        "MARGIN": margin,
    }
    units = {"DARK": "electron/s", "OFFSET": "electron"}
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for name, plane in planes.items():
        # A copy in the file's byte order: astropy swaps a native array's bytes in place while it writes, and
        # frames may be reading the detector's planes at the same time.
        hdus.append(fits.ImageHDU(plane.astype(plane.dtype.newbyteorder(">")), name=name))
        if name in units:
            hdus[-1].header["BUNIT"] = units[name]
    content = BytesIO()
    hdus.writeto(content)
    write_complete(folder / _PLANES, [content.getbuffer()], sync=False)
    return NightTruth(folder, parameters, frames)


def load_truth(folder: Path) -> NightTruth:
    """Load the truth of a night from its folder (``OUT/truth``) or from the night's folder ``OUT``."""
    folder = Path(folder)
    if not (folder / _NIGHT).is_file():
        folder = folder / "truth"
    if not (folder / _NIGHT).is_file():
        raise FrameError(
            str(folder), f"no truth of a simulated night: {_NIGHT} is missing",
            remedy="Simulate the night first: nirflow simulate OUT.",
        )  # fmt: skip
    try:
        parameters = NightParameters.model_validate_json((folder / _NIGHT).read_text())
        frames = tuple(FrameTruth.model_validate(f) for f in json.loads((folder / _FRAMES).read_text()))
    except ValidationError:
        raise FrameError(
            str(folder), "the truth of a night of another version: values are missing or invalid",
            remedy="Simulate the night again, into a new folder.",
        ) from None  # fmt: skip
    return NightTruth(folder, parameters, frames)


def reported_level(electrons: NDArray[Any], camera: Camera) -> NDArray[np.float32]:
    """Return the electrons that the array reports, without linearity correction, for mean electrons of a pixel."""
    c1, c2, c3 = camera.nonlinearity
    well = Well.of(camera)
    level = np.minimum(electrons, well.full).astype(np.float32)
    n = level.copy()
    for _ in range(4):
        n -= (((c3 * n + c2) * n + c1) * n - level) / ((3 * c3 * n + 2 * c2) * n + c1)
    return np.minimum(n, np.float32(well.clip))


def stack_level(
    detector_planes: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    frames: tuple[FrameTruth, ...],
    camera: Camera,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean reported level (e-, not linearised) of equal calibration frames, and its variance.

    Parameters
    ----------
    detector_planes
        Dark current, offset and response.
    frames
        Frames of one set with uniform light: darks or flats.
    camera
        The instrument.

    Returns
    -------
    level, variance : ndarray of float32
        Of the plain mean of the frames; variance of shot noise, read noise and rounding.
    """
    dark, offset, response = detector_planes
    light = np.float32(np.mean([f.level for f in frames]))
    time = np.float32(frames[0].light_time)
    electrons = (dark + response * light) * time
    variance = (electrons + np.float32(frames[0].read_variance)) / np.float32(len(frames))
    return reported_level(electrons + offset, camera), variance


def flat_level(
    detector_planes: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    frames: tuple[FrameTruth, ...],
    camera: Camera,
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return level and variance of the difference from which a flat is made; None if a set is missing.

    Lamp-on minus lamp-off, or lamp-off minus dark of the same exposure in a night without lamp-ons.
    """
    sets: dict[str, tuple[FrameTruth, ...]] = {
        role: tuple(f for f in frames if f.role == role and not f.left_out)
        for role in ("lamp_on", "lamp_off", "flat_dark", "short_dark")
    }
    if sets["lamp_on"]:
        pair = sets["lamp_on"], sets["lamp_off"]
    else:
        pair = sets["lamp_off"], sets["flat_dark"] or sets["short_dark"]
    if not all(pair):
        return None
    (on, var_on), (off, var_off) = (stack_level(detector_planes, group, camera) for group in pair)
    return on - off, var_on + var_off


def bpm_margin(detector: Detector, frames: tuple[FrameTruth, ...], camera: Camera) -> NDArray[np.float32]:
    """Return by how many sigmas of the stacks' noise each pixel exceeds the nearest limit of a bad pixel mask.

    Positive outside the limits, never NaN; a missing set is ignored.
    """
    planes = (detector.dark, detector.offset, detector.response)
    margin = np.full(detector.dark.shape, -np.inf, np.float32)
    short = tuple(f for f in frames if f.role == "short_dark" and not f.left_out)
    if short:
        level, variance = stack_level(planes, short, camera)
        _widen(margin, level, np.sqrt(variance), SHORT_DARK_LIMITS)
    flat = flat_level(planes, frames, camera)
    if flat is not None:
        level, variance = flat
        good = detector.illuminated & (detector.defect == 0)
        norm = np.float32(np.median(level[good]))
        _widen(margin, level / norm, np.sqrt(variance) / norm, FLAT_LIMITS)
    return np.clip(margin, -1e6, 1e6)


def _widen(
    margin: NDArray[np.float32], level: NDArray[Any], sigma: NDArray[Any], limits: tuple[float, float]
) -> None:
    np.maximum(margin, (limits[0] - level) / sigma, out=margin)
    np.maximum(margin, (level - limits[1]) / sigma, out=margin)

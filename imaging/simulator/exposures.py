"""The exposures of a night: scene, array and noise of each frame, and what one leaves behind for the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from imaging.registration.distortion.camera_distortion import Distortion
from imaging.simulator.detector import Detector, Light, cosmic_rays, expose
from imaging.simulator.disturbances.affected import AffectedPixels
from imaging.simulator.disturbances.disturbed_frame import (
    affected_pixels,
    disturbed_array,
    disturbed_scene,
    lose_rows,
)
from imaging.simulator.disturbances.latent_charge import Trapped, latent_plane, trapped
from imaging.simulator.disturbances.readout_faults import unsettled_plane
from imaging.simulator.disturbances.scene_light import galaxy_plane
from imaging.simulator.draw_truth import frame_key
from imaging.simulator.observing_plan import plan_night
from imaging.simulator.parameters import NightParameters
from imaging.simulator.plans.frame import PlannedFrame
from imaging.simulator.star_field import render
from imaging.simulator.truth import FrameTruth, load_truth


@dataclass(frozen=True)
class Night:
    """What the frames of a night have in common."""

    parameters: NightParameters
    detector: Detector
    sources: Table
    trapped: Sequence[Trapped] = ()  #: charge left by each science exposure; empty without persistence


def distortion_of(parameters: NightParameters) -> Distortion | None:
    """Return the distortion of the camera; None without."""
    p = parameters
    return Distortion.radial((p.size, p.size), p.distortion) if p.distortion else None


def scene_of(parameters: NightParameters, sources: Table, truth: FrameTruth) -> NDArray[np.float32]:
    """Return the sources in a science frame, e-/s/pixel at response 1 and transparency 1, shape (size, size)."""
    p, d = parameters, truth.disturbance
    assert truth.pointing is not None
    assert truth.fwhm is not None
    if d.blank:
        return np.zeros((p.size, p.size), np.float32)
    scene = render(
        sources, truth.pointing, size=p.size, axes=p.axes, fwhm=truth.fwhm, beta=p.moffat_beta,
        exposure_time=truth.exposure_time, rotation=d.rotation, smear=d.smear,
        distortion=distortion_of(p),
    )  # fmt: skip
    if p.galaxy:
        assert truth.field_centre is not None
        scene += np.float32(p.galaxy * p.sky_rate) * galaxy_plane(
            (p.size, p.size), truth.field_centre, axes=p.axes, scale=p.galaxy_scale / p.axes.scale,
            axis_ratio=p.galaxy_axis_ratio, rotation=d.rotation,
        )  # fmt: skip
    return scene


def affected_of(night: Night, frame: PlannedFrame, truth: FrameTruth) -> AffectedPixels:
    """Return what affects the pixels of a disturbed frame."""
    p = night.parameters
    latent = None
    if truth.disturbance.latent:
        latent = latent_plane(
            night.trapped, frame.started, fraction=p.persistence, decay=p.persistence_decay,
            shape=(p.size, p.size),
        )  # fmt: skip
    return affected_pixels(
        p, truth.disturbance, size=p.size, fwhm=truth.fwhm or p.fwhm,
        key=(p.seed, frame_key(p.seed, frame.root)), latent=latent,
    )  # fmt: skip


def injected_hits(
    parameters: NightParameters, truth: FrameTruth
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the cosmic rays of a frame: flat pixel indices, each once, and electrons."""
    seed = parameters.seed
    rng = np.random.Generator(np.random.PCG64([seed, 5, frame_key(seed, truth.root)]))
    rays = parameters.cosmic_rate * truth.exposure / 60.0 * parameters.scale**2
    return cosmic_rays(rng, parameters.size, rays)


def simulate_frame(
    night: Night, frame: PlannedFrame, truth: FrameTruth, affected: AffectedPixels | None = None
) -> NDArray[np.int32]:
    """Simulate the ADU of one frame, shape (size, size); ``affected`` of a frame with local disturbances."""
    p, d = night.parameters, truth.disturbance
    detector = night.detector
    if truth.fwhm is None:
        scene = np.zeros_like(detector.dark)
    else:
        scene = scene_of(p, night.sources, truth)
        scene = disturbed_scene(scene, d, level=truth.level, transparency=truth.transparency, fwhm=truth.fwhm)
    if affected is not None:
        detector = disturbed_array(detector, d, affected, exposure=truth.exposure * d.exposed)
    if truth.unsettled:
        detector = replace(detector, offset=detector.offset + unsettled_plane(truth.unsettled, p.size))
    adu = expose(
        detector,
        Light(truth.level, truth.slope_x, truth.slope_y, truth.transparency),
        camera=p.camera,
        scene=scene,
        exposure_time=truth.exposure_time * d.exposed,
        read_pairs=truth.read_pairs,
        coadds=truth.coadds,
        key=frame_key(p.seed, frame.root),
        hits=injected_hits(p, truth),
    )
    lose_rows(adu, d)
    return adu


def trapped_by(night: Night, frame: PlannedFrame, truth: FrameTruth) -> Trapped:
    """Return the charge that a science exposure leaves for later ones, from its mean light."""
    p, d, detector = night.parameters, truth.disturbance, night.detector
    u = np.linspace(-1, 1, p.size, dtype=np.float32)
    light = np.float32(truth.transparency) * scene_of(p, night.sources, truth)
    light += np.float32(truth.level) * (
        1 + np.float32(truth.slope_x) * u[None, :] + np.float32(truth.slope_y) * u[:, None]
    )
    electrons = (detector.dark + detector.response * light) * np.float32(truth.exposure_time * d.exposed)
    ended = frame.started + timedelta(seconds=truth.exposure * d.exposed)
    limit = p.camera.well_depth if p.persistence_limit is None else p.persistence_limit
    return trapped(electrons, ended, threshold=p.persistence_from, limit=limit)


def trapped_before(folder: Path, night: Night) -> list[Trapped]:
    """Return the charge that the science exposures of another simulated night leave, by the parameters of this one."""
    earlier = load_truth(folder)
    parameters = earlier.parameters.model_copy(
        update={
            name: getattr(night.parameters, name)
            for name in ("persistence", "persistence_from", "persistence_limit", "persistence_decay")
        }
    )
    other = Night(parameters, night.detector, earlier.sources)
    plan = {frame.root: frame for frame in plan_night(parameters)}
    return [trapped_by(other, plan[truth.root], truth) for truth in earlier.science]

"""Parameters and quality figures of a measurement of distortion."""

from __future__ import annotations

from imaging.figures import Display, Metrics, figure
from imaging.parameters import StepParameters, parameter


class DistortionParameters(StepParameters):
    """Parameters of a measurement of distortion."""

    order: int = parameter(3, "order of the polynomial", ge=2, le=5)
    min_frames: int = parameter(3, "minimum number of aligned frames", ge=2)
    min_stars: int = parameter(
        30, "minimum number of stars seen in two frames or more, or in one and in the catalogue", ge=10
    )
    min_snr: float = parameter(20.0, "minimum signal to noise of a star", gt=0)
    gain: float = parameter(
        1.1,
        "the residuals of stars left out of the fit must become smaller by this factor",
        unit="times",
        gt=1,
    )
    tolerance: float = parameter(
        3.0, "largest distance of a star from its place in the other frames", unit="pixel", gt=0
    )
    max_error: float = parameter(
        0.25, "largest standard error of the displacement at the edge of the frame", unit="pixel", gt=0
    )
    catalogue: bool = parameter(True, "use the reference stars of a catalogue if one is named")


class DistortionMetrics(Metrics):
    """Figures of a measured distortion."""

    largest: float = figure(
        "largest displacement on the frame", "largest displacement", unit="px", headline=True, history=True,
        also=Display("largest displacement on the sky", "arcsec", None),
    )  # fmt: skip
    noise: float = figure(
        "standard error of the displacement along one axis, rms over the edge of the frame", "error at the edge",
        unit="px", headline=True, history=True, digits=2,
    )  # fmt: skip
    rms: float = figure(
        "residual of a star's position along one axis", "residual", unit="px", history=True, digits=2
    )
    gain: float = figure(
        "factor by which the distortion reduces the residuals of stars left out of the fit",
        "gain",
        unit="times",
        digits=3,
    )
    order: int = figure("order of the polynomial", "order")
    frames: int = figure("frames with stars in the fit", "frames", headline=True)
    stars: int = figure("stars in the fit", "stars", headline=True, history=True)
    source: str = figure(
        "what the positions are compared with: the other frames alone, or also a catalogue", "compared with"
    )

"""The parameters of a mosaic."""

from __future__ import annotations

from typing import Literal

from imaging.parameters import StepParameters, parameter


class MosaicParameters(StepParameters):
    """How stacks are placed on one grid, scaled to each other and combined."""

    orientation: Literal["reference", "north"] = parameter(
        "reference",
        "axes of the grid: reference (those of the reference stack) or north (North up, East left)",
    )
    reference: str = parameter(
        "",
        "stack whose scale, and orientation, the mosaic has; default: the one with the best point-source signal",
    )
    search: float = parameter(
        5.0, "largest error of world coordinates that stars in common correct", unit="arcsec", gt=0, le=120
    )
    min_snr: float = parameter(15.0, "minimum signal to noise of stars in common", gt=0)
    min_matches: int = parameter(3, "minimum number of stars in common that place a stack", ge=2)
    false_alarm: float = parameter(1e-4, "largest probability of a match by chance", gt=0, lt=1)
    max_rms: float = parameter(
        0.3, "largest residual of the stars in common along one axis; a stack with more is left out",
        unit="px", gt=0,
    )  # fmt: skip
    trust_coordinates: bool = parameter(
        False, "use a stack whose world coordinates neither a catalogue nor stars in common confirm"
    )
    max_scale_error: float = parameter(
        0.1, "largest error of the factor that scales a stack; a stack with more is left out",
        unit="mag", gt=0, le=1,
    )  # fmt: skip
    level: Literal["constant", "plane", "none"] = parameter(
        "constant", "backgrounds are matched where stacks overlap: by a constant, a plane, or not (none)"
    )
    weights: Literal["point_source", "noise"] = parameter(
        "point_source",
        "weights: 1 over the variance of the background (noise), also over FWHM^2 (point_source)",
    )
    max_side: int = parameter(12000, "largest side of the mosaic", unit="px", ge=100)

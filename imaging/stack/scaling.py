"""The factor that scales each frame to the reference, and its weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.errors import GroupError
from imaging.parameters import StepParameters, parameter
from imaging.stack.inputs import StackInput

ScaledBy = Literal["none", "exposure", "stars"]
WeightedBy = Literal["none", "noise", "point_source"]

#: What a name of the weights needs of each frame.
_NEEDS: Final = {"none": (), "noise": ("noise",), "point_source": ("noise", "seeing")}


class ScalingParameters(StepParameters):
    """How frames are scaled and weighted."""

    scale: Literal["auto", "none", "exposure", "stars"] = parameter(
        "auto",
        "scale frames to the reference: not at all, by exposure time, by the flux of the matched stars, or auto: by "
        "the stars if they agree in every frame, otherwise by exposure time",
    )  # fmt: skip
    scale_error: float = parameter(
        0.02, "scale=auto uses the stars if the standard error of their flux ratio is at most this in every frame",
        gt=0, lt=1,
    )  # fmt: skip
    weights: WeightedBy = parameter(
        "point_source",
        "weights of a mean: equal (none), 1/noise^2, or by the signal to noise of a point source, 1/(noise seeing)^2; "
        "noise is that of the scaled frame, and so contains the transparency",
    )  # fmt: skip


class Scaling(NamedTuple):
    """Factors of frames.

    Attributes
    ----------
    by
        What they are from.
    factors
        float64 (n,).
    transparency
        That of the reference over that of the clearest frame; None if the stars do not give it.
    note
        Why ``auto`` did not use the stars; empty if it did.
    """

    by: ScaledBy
    factors: NDArray[np.float64]
    transparency: float | None
    note: str = ""


def choose_scaling(
    inputs: Sequence[StackInput], parameters: ScalingParameters, reference: str | None
) -> Scaling:
    """Return the factors that scale the frames to ``reference`` (default: the first).

    Raises
    ------
    GroupError
        If the reference is not among the frames, or if ``scale=stars`` and a frame has no flux.
    """
    chosen = next((f for f in inputs if f.name == reference), None) if reference else inputs[0]
    if chosen is None:
        raise GroupError(
            f"The reference {reference} is not among the frames.", remedy="Stack it, or name another."
        )
    by, note = _resolved(inputs, parameters, chosen)
    if by == "none":
        return Scaling(by, np.ones(len(inputs)), None)
    exposure = np.array([chosen.facts.exposure / f.facts.exposure for f in inputs])
    if by == "exposure":
        return Scaling(by, exposure, None, note)
    odd = [f.name for f in inputs if not (math.isfinite(f.flux_scale) and f.flux_scale > 0)]
    if odd:
        raise GroupError(
            f"No flux scale for {', '.join(odd)}.", remedy="Leave them out, or set stack.scale=exposure."
        )
    factors = np.array([chosen.flux_scale / f.flux_scale for f in inputs])
    return Scaling(by, factors, float((factors / exposure).min()))


def _resolved(
    inputs: Sequence[StackInput], parameters: ScalingParameters, chosen: StackInput
) -> tuple[ScaledBy, str]:
    if parameters.scale != "auto":
        return parameters.scale, ""
    poor = [
        f.name
        for f in inputs
        if f is not chosen
        and not (
            f.flux_error is not None
            and f.flux_error <= parameters.scale_error
            and math.isfinite(f.flux_scale)
            and f.flux_scale > 0
        )
    ]
    if not poor and len(inputs) > 1:
        return "stars", ""
    note = (
        f"scaled by exposure time, because the stars do not give the flux of {', '.join(poor)} to "
        f"{parameters.scale_error:.0%} (stack.scale_error)"
    )
    return "exposure", note if poor else ""


class Weighting(NamedTuple):
    """Weights of frames.

    Attributes
    ----------
    by
        What they are from.
    shares
        float64 (n,), with the sum 1; None for equal ones.
    note
        Why they are not what was requested; empty if they are.
    """

    by: WeightedBy
    shares: NDArray[np.float64] | None
    note: str = ""


def choose_weights(
    inputs: Sequence[StackInput], parameters: ScalingParameters, scales: NDArray[np.float64]
) -> Weighting:
    """Return the weights; without the seeing or the noise of a frame, those that do not need it."""
    order: tuple[WeightedBy, ...] = ("point_source", "noise", "none")
    by = next(one for one in order[order.index(parameters.weights) :] if not _missing(inputs, one))
    note = ""
    if by != parameters.weights:
        missing = ", ".join(_missing(inputs, parameters.weights))
        note = f"weights={by} instead of {parameters.weights}, because the noise or seeing of {missing} is unknown"
    if by == "none":
        return Weighting(by, None, note)
    spread = scales * np.array([f.noise for f in inputs], np.float64)
    if by == "point_source":
        spread = spread * np.array([f.seeing for f in inputs], np.float64)
    weights = spread**-2
    return Weighting(by, weights / math.fsum(weights), note)


def _missing(inputs: Sequence[StackInput], by: WeightedBy) -> list[str]:
    """Return the frames without a figure that these weights need."""
    values = [(f.name, getattr(f, what)) for what in _NEEDS[by] for f in inputs]
    return list(dict.fromkeys(n for n, v in values if v is None or not math.isfinite(v) or v <= 0))

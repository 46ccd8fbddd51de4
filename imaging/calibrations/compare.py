"""The comparison of a new master with a certified one: how far they differ, and whether that is too much.

A dark, flat or bad pixel mask is compared pixel by pixel with a reference of the same configuration. The
variances of both give the difference that noise explains; anything beyond it is a change of the detector or
the lamp, or something that does not belong in a calibration (light in a dark, a failed lamp)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.calibrations.illumination import circle_of, measure_circle
from imaging.errors import FrameError
from imaging.kinds import KINDS, ComparisonName, in_a_sentence
from imaging.parameters import StepParameters, parameter
from imaging.pixels.dq import UNUSABLE
from imaging.products.product_file import ProductFile
from imaging.usual import MAD_TO_SIGMA

Figures = dict[str, float | int]


class GateParameters(StepParameters):
    """How much a new dark, flat or mask may differ from the certified one."""

    sigma: float = parameter(5.0, "a pixel counts as different beyond this deviation", unit="sigma", gt=0)
    fraction: float = parameter(0.01, "largest fraction of the pixels that may differ", gt=0, le=1)
    dark_level: float = parameter(10.0, "largest difference of the median of a dark", unit="electron", gt=0)
    flat_scatter: float = parameter(
        0.02, "largest robust rms of the ratio of two flats about its median", gt=0, le=1
    )
    flat_floor: float = parameter(
        0.005, "changes of a flat's response up to this are normal, in addition to the noise", ge=0, le=1
    )
    noise: float = parameter(
        1.5,
        "largest ratio of the noise according to the variances, in either direction; a difference that the "
        "numbers of combined frames explain is allowed",
        gt=1,
    )
    hot: float = parameter(
        1.5, "largest ratio of the numbers of hot (or bad) pixels, new over reference", gt=1
    )
    hot_floor: int = parameter(
        500,
        "a number of hot (or bad) pixels that exceeds the reference's by up to this is normal",
        unit="px",
        ge=0,
    )
    edge: float = parameter(
        6.0,
        "distance from the edge of the circle of light within which masks are not compared",
        unit="px",
        ge=0,
    )
    certify: bool = parameter(
        False, "certify products that pass; validity is split half-way between neighbouring products"
    )


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes
    ----------
    figures
        Name to value; `meanings_of` describes each.
    reasons
        Why the new product differs too much, one sentence each; empty if it passed.
    """

    figures: Figures
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the new product is within all limits."""
        return not self.reasons


_COMMON: Final = {
    "pixels": ("pixels that are usable in both", "px"),
    "differing": ("fraction of them that differ beyond the noise of both", ""),
    "noise": ("noise of the new one over that of the reference, according to their variances", ""),
}
#: What each figure means, and its unit, by the comparison that the table of kinds names (`imaging.kinds`).
MEANINGS: Final[dict[ComparisonName, dict[str, tuple[str, str]]]] = {
    "difference": _COMMON
    | {
        "level": ("median difference", "electron"),
        "scatter": ("robust rms of the difference", "electron"),
        "expected": ("the same, as expected from the variances of both", "electron"),
        "hot": ("hot pixels of the new one", "px"),
        "hot_reference": ("hot pixels of the reference", "px"),
    },
    "ratio": _COMMON
    | {
        "level": ("median ratio less 1", ""),
        "scatter": ("robust rms of the ratio", ""),
        "expected": ("the same, as expected from the variances of both", ""),
    },
    "mask": {
        "pixels": ("pixels inside the circle of light", "px"),
        "differing": ("fraction of them that are bad in only one of the two", ""),
        "hot": ("bad pixels of the new one", "px"),
        "hot_reference": ("bad pixels of the reference", "px"),
        "flipped": ("pixels that are bad in only one of the two", "px"),
    },
}


#: What is compared, in messages.
COMPARED: Final = tuple(kind.plural for kind in KINDS.values() if kind.comparison is not None)


def meanings_of(kind: str) -> Mapping[str, tuple[str, str]]:
    """Return what each figure of a comparison of two products of a kind means, and its unit."""
    comparison = KINDS[kind].comparison
    return {} if comparison is None else MEANINGS[comparison]


def compare(kind: str, new: ProductFile, reference: ProductFile, parameters: GateParameters) -> Comparison:
    """Compare a new product with a reference.

    Parameters
    ----------
    kind
        Kind of both.
    new, reference
        The products.
    parameters
        The limits.

    Raises
    ------
    FrameError
        If the two differ in shape, lack a plane, or are of a kind that is not compared.
    """
    if new.shape != reference.shape:
        raise FrameError(
            new.path.name, f"{new.shape[0]} x {new.shape[1]} pixels cannot be compared with the "
            f"{reference.shape[0]} x {reference.shape[1]} of {reference.path.name}",
            remedy="Compare two products of the full detector.",
        )  # fmt: skip
    comparisons: dict[ComparisonName, Callable[[ProductFile, ProductFile, GateParameters], Comparison]] = {
        "difference": _difference, "ratio": _ratio, "mask": _masks,
    }  # fmt: skip
    comparison = KINDS[kind].comparison
    if comparison is None:
        raise FrameError(
            new.path.name, f"products of the kind {kind} are not compared",
            remedy=f"Compare {in_a_sentence(COMPARED)}.",
        )  # fmt: skip
    return comparisons[comparison](new, reference, parameters)


def _difference(new: ProductFile, reference: ProductFile, parameters: GateParameters) -> Comparison:
    ours, theirs, good = _usable(new, reference)
    difference = ours - theirs
    variance = _both(new, reference, good)
    level, scatter = _median_and_sigma(difference)
    # Two darks may differ by a constant (the pedestal drifts); the comparison of levels covers that.
    beyond = np.abs(difference - level) > parameters.sigma * np.sqrt(variance)
    hot, hot_reference = _hot(ours, theirs)
    figures: Figures = {
        "pixels": int(good.sum()),
        "differing": float(beyond.mean()),
        "level": level,
        "scatter": scatter,
        "expected": float(np.sqrt(np.median(variance))),
        "noise": _noise_ratio(new, reference, good),
        "hot": hot,
        "hot_reference": hot_reference,
    }
    reasons = [
        *_too_many(figures, parameters),
        *_too_noisy(new, reference, figures, parameters),
        *_too_hot(figures, parameters),
    ]
    if abs(level) > parameters.dark_level:
        reasons.insert(
            0, f"the level is {level:+.1f} e- off, at most {parameters.dark_level:g} (gate.dark_level)"
        )
    return Comparison(figures, tuple(reasons))


def _ratio(new: ProductFile, reference: ProductFile, parameters: GateParameters) -> Comparison:
    ours, theirs, good = _usable(new, reference, positive=True)
    ratio = ours / theirs
    # Relative variance of a ratio: the relative variances of both, by the ratio squared.
    relative = _plane(new, "VAR", good) / (ours * ours) + _plane(reference, "VAR", good) / (theirs * theirs)
    level, scatter = _median_and_sigma(ratio)
    allowed = np.sqrt(relative * level * level + parameters.flat_floor**2)
    figures: Figures = {
        "pixels": int(good.sum()),
        "differing": float((np.abs(ratio - level) > parameters.sigma * allowed).mean()),
        "level": level - 1.0,
        "scatter": scatter,
        "expected": float(np.sqrt(np.median(relative)) * level),
        "noise": _noise_ratio(new, reference, good),
    }
    reasons = [*_too_many(figures, parameters), *_too_noisy(new, reference, figures, parameters)]
    if scatter > parameters.flat_scatter:
        reasons.insert(
            0,
            f"the response is {scatter:.2%} rms off, at most {parameters.flat_scatter:.2%} (gate.flat_scatter)",
        )
    return Comparison(figures, tuple(reasons))


def _masks(new: ProductFile, reference: ProductFile, parameters: GateParameters) -> Comparison:
    ours, theirs = new.bad_pixels() != 0, reference.bad_pixels() != 0
    lit = _lit((new, ours), (reference, theirs), margin=parameters.edge)
    ours, theirs = ours[lit], theirs[lit]
    flipped = int(np.count_nonzero(ours != theirs))
    figures: Figures = {
        "pixels": ours.size,
        "differing": flipped / ours.size,
        "hot": int(ours.sum()),
        "hot_reference": int(theirs.sum()),
        "flipped": flipped,
    }
    return Comparison(figures, (*_too_many(figures, parameters), *_too_hot(figures, parameters, "bad")))


def _usable(
    new: ProductFile, reference: ProductFile, *, positive: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return the pixels of both that are usable in both, and where they are."""
    flags = new.rows("DQ") | reference.rows("DQ")
    ours, theirs = new.rows("SCI"), reference.rows("SCI")
    good = (flags & np.uint16(UNUSABLE)) == 0
    good &= np.isfinite(ours) & np.isfinite(theirs)
    if positive:
        good &= (ours > 0) & (theirs > 0)
    if not good.any():
        raise FrameError(
            new.path.name, f"no pixel is usable both here and in {reference.path.name}",
            remedy="Inspect the DQ planes of both.",
        )  # fmt: skip
    return ours[good].astype(np.float64), theirs[good].astype(np.float64), good


def _plane(product: ProductFile, name: str, good: NDArray[np.bool_]) -> NDArray[np.float64]:
    return product.rows(name)[good].astype(np.float64)


def _both(new: ProductFile, reference: ProductFile, good: NDArray[np.bool_]) -> NDArray[np.float64]:
    return _plane(new, "VAR", good) + _plane(reference, "VAR", good)


def _median_and_sigma(values: NDArray[np.float64]) -> tuple[float, float]:
    median = float(np.median(values))
    return median, float(MAD_TO_SIGMA * np.median(np.abs(values - median)))


def _hot(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[int, int]:
    """Return the numbers of pixels far above the level, in units of the scatter of the reference's pixels."""
    median, sigma = _median_and_sigma(theirs)
    limit = 10.0 * sigma
    return int((ours - np.median(ours) > limit).sum()), int((theirs - median > limit).sum())


def _lit(*masks: tuple[ProductFile, NDArray[np.bool_]], margin: float) -> NDArray[np.bool_]:
    """Return the pixels that get light according to both masks; all pixels if neither shows it.

    Our masks have the circle in their header and flag nothing outside; other masks flag the pixels outside.
    """
    lit = np.ones(masks[0][1].shape, np.bool_)
    for product, bad in masks:
        circle = circle_of(product.header) or measure_circle((~bad).astype(np.float32))
        if circle.measured:
            lit &= circle.mask((bad.shape[0], bad.shape[1]), margin=margin).view(np.bool_)
    if not lit.any():
        names = " and ".join(product.path.name for product, _ in masks)
        raise FrameError(
            names, "no pixel gets light in both masks",
            remedy="Compare masks of one detector and one section of it.",
        )  # fmt: skip
    return lit


def _noise_ratio(new: ProductFile, reference: ProductFile, good: NDArray[np.bool_]) -> float:
    """Return the noise of the new master over that of the reference, according to their variances."""
    ours, theirs = (float(np.median(_plane(one, "VAR", good))) for one in (new, reference))
    return float(np.sqrt(ours / theirs)) if theirs > 0 else float("inf")


def _by_frames(new: ProductFile, reference: ProductFile) -> float:
    """Return the same ratio as expected from the numbers of frames alone."""
    return float(np.sqrt(_frames(reference) / _frames(new)))


def _frames(product: ProductFile) -> int:
    """Return the number of frames that determines the noise: in a flat, those with light.

    Other software counts only these in the NCOMBINE of a flat; ours counts all frames there, and those with
    light in NLAMPON."""
    number: Any = product.primary.get("NLAMPON", product.primary.get("NCOMBINE", 1))
    return number if isinstance(number, int) and number > 0 else 1


def _too_many(figures: Figures, parameters: GateParameters) -> tuple[str, ...]:
    if figures["differing"] <= parameters.fraction:
        return ()
    beyond = f"beyond {parameters.sigma:g} sigma" if "level" in figures else "in only one of the two"
    return (
        f"{figures['differing']:.2%} of the pixels differ {beyond}, at most {parameters.fraction:.2%} "
        "(gate.fraction)",
    )


def _too_noisy(
    new: ProductFile, reference: ProductFile, figures: Figures, parameters: GateParameters
) -> tuple[str, ...]:
    expected = _by_frames(new, reference)
    low, high = min(1.0, expected) / parameters.noise, max(1.0, expected) * parameters.noise
    if low <= figures["noise"] <= high:
        return ()
    return (
        f"it is {figures['noise']:.2f} times as noisy by its variances, expected {low:.2f} to {high:.2f} with "
        f"{_frames(new)} and {_frames(reference)} frames (gate.noise)",
    )


def _too_hot(figures: Figures, parameters: GateParameters, label: str = "hot") -> tuple[str, ...]:
    limit = max(figures["hot_reference"] * parameters.hot, figures["hot_reference"] + parameters.hot_floor)
    if figures["hot"] <= limit:
        return ()
    return (
        f"{figures['hot']} {label} pixels, the reference has {figures['hot_reference']}: at most {limit:.0f} "
        "(gate.hot, gate.hot_floor)",
    )

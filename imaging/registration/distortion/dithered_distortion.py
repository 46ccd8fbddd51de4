"""Measure the distortion of a camera from dithered frames of one field, relative to each other or to a catalogue.

A star that falls on other pixels in each frame shows how the displacement changes over the detector. The true positions
of the stars are unknown and eliminated: what is fitted are the shift and rotation of each frame and one distortion for
all. The scale of the frames is taken as the same, because a change of scale from frame to frame is what a quadratic
distortion looks like.

The stars of a catalogue count as another frame, without distortion: its shift, rotation, scale and shear are fitted,
and the dithers need not be large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.listed import counted
from imaging.registration.distortion.camera_distortion import Distortion, distortion_terms
from imaging.registration.distortion.distortion_parameters import DistortionParameters
from imaging.registration.geometry import Affine
from imaging.registration.star_matching import pair_up

#: Version of the algorithm: raise it when pixels or figures change for the same frames and parameters.
VERSION = 1

#: Smallest standard error of a centroid, px.
_CENTROID_ERROR: Final = 0.01
#: Parts that the stars are divided into: each is predicted by a fit to the others.
_PARTS: Final = 10
#: Residuals beyond this many standard errors are not used, and iterations of pairing, fitting and clipping.
_CLIP, _PASSES = 4.0, 4
#: Largest condition number of the normal equations with columns of equal length.
_SINGULAR: Final = 1e9
#: Positions along the edge at which the error is given.
_EDGE: Final = 33


@dataclass(frozen=True)
class FrameStars:
    """The stars of one frame.

    Attributes
    ----------
    x, y
        float64 (n,): positions, px from 0.
    error
        float64 (n,): standard errors along each axis, px.
    transform
        Frame pixel to reference pixel, from the alignment.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    error: NDArray[np.float64]
    transform: Affine


@dataclass(frozen=True)
class SkyStars:
    """The stars of a catalogue, in the pixels of the frame that the others are aligned to.

    Attributes
    ----------
    x, y
        float64 (n,): where they would be without distortion, px from 0; a linear transform of them makes no difference.
    seen_x, seen_y
        float64 (n,): where they are expected with distortion, for the search.
    error
        float64 (n,): standard errors along each axis, px.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    seen_x: NDArray[np.float64]
    seen_y: NDArray[np.float64]
    error: NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredDistortion:
    """A measured distortion.

    Attributes
    ----------
    distortion
        The polynomial.
    covariance
        float64 (2 terms, 2 terms): covariance of its coefficients, x before y, px^2.
    frames, stars
        Frames, and stars in two of them or more; the catalogue counts as one for the stars.
    rms
        Residual of a position along one axis, px.
    gain
        Factor by which the distortion reduces the residuals of stars left out of the fit.
    error
        Standard error of the displacement along one axis, rms over the edge of the frame, px.
    """

    distortion: Distortion
    covariance: NDArray[np.float64]
    frames: int
    stars: int
    rms: float
    gain: float
    error: float


@dataclass(frozen=True)
class _Observations:
    """Positions of stars that are in two frames or more."""

    frame: NDArray[np.int64]
    star: NDArray[np.int64]
    at: NDArray[np.float64]
    error: NDArray[np.float64]

    def among(self, kept: NDArray[np.bool_]) -> _Observations:
        """Return some of them, without stars that only one frame has left."""
        frame, star, at, error = self.frame[kept], self.star[kept], self.at[kept], self.error[kept]
        repeated = (np.bincount(star, minlength=int(self.star.max(initial=0)) + 1) > 1)[star]
        _, star = np.unique(star[repeated], return_inverse=True)
        return _Observations(frame[repeated], star, at[repeated], error[repeated])


def measure_distortion(
    frames: Sequence[FrameStars],
    shape: tuple[int, int],
    parameters: DistortionParameters | None = None,
    sky: SkyStars | None = None,
) -> MeasuredDistortion | str:
    """Measure the distortion that dithered frames share.

    Parameters
    ----------
    frames
        Their stars; the transforms may be off by what the distortion does to them.
    shape
        (ny, nx) of the frames.
    parameters
        Order and limits.
    sky
        Stars of a catalogue; None without one.

    Returns
    -------
    MeasuredDistortion or str
        The distortion, or what prevents it: too few stars, dithers too small, or no better than without.
    """
    parameters = parameters or DistortionParameters()
    seen = _observations(frames, parameters.tolerance, sky)
    transforms = [frame.transform for frame in frames]
    model = _Model(transforms, shape, parameters.order, with_sky=sky is not None)
    fit = None
    for _ in range(_PASSES):
        stars = len(np.unique(seen.star))
        if stars < parameters.min_stars:
            where = (
                "two frames or more" if sky is None else "two frames or more, or a frame and the catalogue"
            )
            return f"{counted(stars, 'star')} in {where}, {parameters.min_stars} are needed (distortion.min_stars)"
        fit = model.fit(seen, distorted=True)
        if fit is None:
            return f"{_extent(frames, shape)} and {counted(stars, 'star')} do not determine the distortion"
        pull = np.hypot(*fit.residuals.T) / seen.error
        keep = pull <= _CLIP * max(1.0, float(np.median(pull)))
        if keep.all():
            break
        seen = seen.among(keep)
    assert fit is not None
    plain, better = (_left_out(model, seen, distorted=distorted) for distorted in (False, True))
    if not (math.isfinite(plain) and math.isfinite(better) and better > 0):
        return "the stars are too few to be left out of the fit in turn"
    gain = plain / better
    if gain < parameters.gain:
        return (
            f"a distortion reduces the residuals of stars left out of the fit by a factor of {gain:.3f} "
            f"(limit {parameters.gain:g}, distortion.gain)"
        )
    n = len(distortion_terms(parameters.order))
    coefficients, covariance = fit.solution[-2 * n :], fit.covariance[-2 * n :, -2 * n :]
    distortion = Distortion(
        shape, parameters.order, tuple(map(float, coefficients[:n])), tuple(map(float, coefficients[n:]))
    )
    error = _edge_error(distortion, covariance)
    if error > parameters.max_error:
        return (
            f"the displacement at the edge would be known to {error:.2g} px (limit {parameters.max_error:g}, "
            f"distortion.max_error), from {_extent(frames, shape)} and {counted(len(np.unique(seen.star)), 'star')}"
        )
    rms = float(np.sqrt((fit.residuals**2).mean()))
    return MeasuredDistortion(
        distortion,
        covariance,
        len(np.unique(seen.frame[seen.frame < len(frames)])),
        len(np.unique(seen.star)),
        rms,
        gain,
        error,
    )


def _extent(frames: Sequence[FrameStars], shape: tuple[int, int]) -> str:
    """Return how far the frames are dithered, for a message."""
    middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    places = np.array([frame.transform(*middle) for frame in frames])
    x, y = np.ptp(places, axis=0)
    return f"dithers of {x:.0f} px along x and {y:.0f} px along y"


def _observations(
    frames: Sequence[FrameStars], tolerance: float, sky: SkyStars | None = None
) -> _Observations:
    """Return the stars of all frames, each with the number of the star that it is; those of the catalogue come last."""
    known = np.empty((0, 2))
    parts = []
    if sky is not None:
        known = np.column_stack([sky.seen_x, sky.seen_y])
        last, at = np.full(len(known), len(frames)), np.column_stack([sky.x, sky.y])
        parts.append((last, np.arange(len(known)), at, sky.error))
    for i, frame in enumerate(frames):
        there = np.column_stack(frame.transform(frame.x, frame.y))
        number = np.full(len(there), -1)
        if len(known) and len(there):
            a, b = pair_up(there, known, tolerance)
            number[a] = b
        new = np.flatnonzero(number < 0)
        number[new] = len(known) + np.arange(len(new))
        known = np.concatenate([known, there[new]])
        error = np.hypot(frame.error, _CENTROID_ERROR)
        parts.append((np.full(len(there), i), number, np.column_stack([frame.x, frame.y]), error))
    frame_of, star, at, error = (np.concatenate(column) for column in zip(*parts, strict=True))
    found = _Observations(frame_of, star, at, error)
    return found.among(np.isfinite(at).all(axis=1) & np.isfinite(error))


@dataclass(frozen=True)
class _Fit:
    solution: NDArray[np.float64]
    covariance: NDArray[np.float64]
    residuals: NDArray[np.float64]


class _Model:
    """Positions in the reference without distortion, as a linear function of what is fitted.

    Parameters are a shift in x and y and a rotation of each frame except the first, in px at the edge, the linear
    transform of a catalogue, and the coefficients of the distortion.
    """

    def __init__(
        self, transforms: Sequence[Affine], shape: tuple[int, int], order: int, *, with_sky: bool
    ) -> None:
        self.transforms, self.with_sky = transforms, with_sky
        n = len(distortion_terms(order))
        self.terms = n
        self.frame = Distortion(shape, order, (0.0,) * n, (0.0,) * n)

    def fit(self, seen: _Observations, *, distorted: bool) -> _Fit | None:
        """Return the weighted least-squares fit; None if the observations do not determine it."""
        design, offsets = self._equations(seen, distorted=distorted)
        weights = 1.0 / np.repeat(seen.error, 2)
        a, b = design.reshape(len(offsets.ravel()), -1) * weights[:, None], offsets.ravel() * weights
        length = np.sqrt((a**2).sum(axis=0))
        if not (length > 0).all() or len(b) <= a.shape[1] + 2 * len(np.unique(seen.star)):
            return None
        normal = (a / length).T @ (a / length)
        if not np.linalg.cond(normal) < _SINGULAR:
            return None
        inverse = np.linalg.inv(normal) / np.outer(length, length)
        solution = inverse @ (a.T @ b)
        residuals = offsets - design @ solution
        freedom = len(b) - len(solution) - 2 * len(np.unique(seen.star))
        excess = max(1.0, float(((residuals / seen.error[:, None]) ** 2).sum()) / freedom)
        return _Fit(solution, inverse * excess, residuals)

    def apply(
        self, seen: _Observations, solution: NDArray[np.float64], *, distorted: bool
    ) -> NDArray[np.float64]:
        """Return the residuals (n, 2) of observations from a solution."""
        design, offsets = self._equations(seen, distorted=distorted)
        return offsets - design @ solution

    def _equations(
        self, seen: _Observations, *, distorted: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return design (n, 2, parameters) and offsets (n, 2), both without the mean over the frames of each star."""
        n, frames = len(seen.at), len(self.transforms)
        first_of_sky = 3 * (frames - 1)
        moved = first_of_sky + (6 if self.with_sky else 0)
        design = np.zeros((n, 2, moved + (2 * self.terms if distorted else 0)))
        there = np.empty((n, 2))
        powers = self.frame.powers(*seen.at.T)
        middle, half = np.array(self.frame.middle), self.frame.half
        for i, transform in enumerate(self.transforms):
            here = seen.frame == i
            there[here] = np.column_stack(transform(*seen.at[here].T))
            if i:
                at = (there[here] - middle) / half
                design[here, 0, 3 * i - 3] = design[here, 1, 3 * i - 2] = 1.0
                design[here, 0, 3 * i - 1], design[here, 1, 3 * i - 1] = -at[:, 1], at[:, 0]
            if distorted:
                first, second = slice(moved, moved + self.terms), slice(moved + self.terms, None)
                design[here, 0, first], design[here, 1, first] = (
                    transform.xx * powers[here],
                    transform.yx * powers[here],
                )
                design[here, 0, second], design[here, 1, second] = (
                    transform.xy * powers[here],
                    transform.yy * powers[here],
                )
        if self.with_sky:
            of_sky = seen.frame == frames
            there[of_sky] = seen.at[of_sky]
            at = (there[of_sky] - middle) / half
            linear = np.column_stack([np.ones(len(at)), at])
            design[of_sky, 0, first_of_sky : first_of_sky + 3] = linear
            design[of_sky, 1, first_of_sky + 3 : moved] = linear
        return _without_mean(design, seen), -_without_mean(there, seen)


def _without_mean(values: NDArray[np.float64], seen: _Observations) -> NDArray[np.float64]:
    """Return values (n, ...) minus the weighted mean of those of the same star."""
    weight = 1.0 / seen.error**2
    total = np.bincount(seen.star, weight)
    mean = np.zeros((len(total), *values.shape[1:]))
    np.add.at(mean, seen.star, values * weight.reshape(-1, *[1] * (values.ndim - 1)))
    mean /= total.reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(values - mean[seen.star], np.float64)


def _left_out(model: _Model, seen: _Observations, *, distorted: bool) -> float:
    """Return the weighted rms residual of stars from fits to the other stars; NaN if they do not determine a fit."""
    total = 0.0
    for part in range(_PARTS):
        out = seen.star % _PARTS == part
        fit = model.fit(seen.among(~out), distorted=distorted)
        left = seen.among(out)
        if fit is None:
            return math.nan
        residuals = model.apply(left, fit.solution, distorted=distorted)
        total += float(((residuals / left.error[:, None]) ** 2).sum())
    return math.sqrt(total / max(2 * len(seen.at), 1))


def _edge_error(distortion: Distortion, covariance: NDArray[np.float64]) -> float:
    """Return the standard error of the displacement along one axis, rms over the edge, px."""
    ny, nx = distortion.shape
    x, y = np.linspace(0, nx - 1, _EDGE), np.linspace(0, ny - 1, _EDGE)
    zero_x, zero_y = np.zeros(_EDGE), np.zeros(_EDGE)
    at = np.concatenate([
        np.column_stack([x, zero_y]), np.column_stack([x, zero_y + ny - 1]),
        np.column_stack([zero_x, y]), np.column_stack([zero_x + nx - 1, y]),
    ])  # fmt: skip
    powers = distortion.powers(*at.T)
    n = powers.shape[1]
    variance = sum(
        np.einsum("ij,jk,ik->i", powers, covariance[part, part], powers)
        for part in (slice(0, n), slice(n, 2 * n))
    )
    return float(np.sqrt(np.mean(variance) / 2))

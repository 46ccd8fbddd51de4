"""Which stacks a mosaic is made from, where they are, and the factor of each; the others are left out by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import GroupError
from imaging.listed import counted
from imaging.mosaic.mosaic_input import MosaicInput
from imaging.mosaic.overlaps import Overlap, find_overlaps
from imaging.mosaic.parameters import MosaicParameters
from imaging.mosaic.sky_grid import Move, middle_of
from imaging.mosaic.solve import Registration, Scales, connected, fit_scales, register

#: Stars of both stacks in the field that they share, none of which match, that show that their coordinates disagree.
_TELLING: Final = 6
#: World coordinates from a catalogue are contradicted by stars in common that are this many errors away.
_CONTRADICTED: Final = 5.0
#: A zero point from a catalogue that differs by more errors, and more magnitudes, from the fit is reported.
_SUSPECT: Final = 4.0
_SUSPECT_MAG: Final = 0.05
#: Seeing if no star allows a measurement, px.
_USUAL_FWHM: Final = 4.0
_CATALOGUE_REMEDY: Final = "Reduce its night again with a reference catalogue (--catalogue)"


@dataclass(frozen=True)
class Excluded:
    """A stack that is left out."""

    name: str
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Arrangement:
    """The stacks of a mosaic on the sky, and their scales.

    Attributes
    ----------
    stacks
        The stacks that are used.
    reference
        Index of the one whose scale the mosaic has.
    moves
        Correction of the world coordinates of each.
    factors
        Factor of each: of its pixels, if these are as large as those of the reference.
    factor_errors
        Standard errors of the factors, mag.
    zero_points
        Zero point of each, mag; NaN if no catalogue gives any.
    zero_point_error
        Standard error of that of the reference, mag; NaN without one.
    rms, stars
        Residual of the stars in common along one axis, arcsec (NaN without any), and their number, of each stack.
    excluded
        The stacks that are left out.
    notes
        What the user should know about those that are used.
    """

    stacks: tuple[MosaicInput, ...]
    reference: int
    moves: tuple[Move, ...]
    factors: NDArray[np.float64]
    factor_errors: NDArray[np.float64]
    zero_points: NDArray[np.float64]
    zero_point_error: float
    rms: NDArray[np.float64]
    stars: NDArray[np.int64]
    excluded: tuple[Excluded, ...]
    notes: tuple[str, ...]


def arrange(stacks: Sequence[MosaicInput], parameters: MosaicParameters | None = None) -> Arrangement:
    """Place stacks on the sky and scale them to one of them.

    Parameters
    ----------
    stacks
        The stacks, of one band.
    parameters
        Limits.

    Raises
    ------
    GroupError
        If fewer than two stacks remain; the message has the reason of each that was left out.
    """
    parameters = parameters or MosaicParameters()
    excluded: list[Excluded] = []
    here: list[MosaicInput] = []
    for stack in stacks:
        problem = _unusable(stack)
        if problem is None:
            here.append(stack)
        else:
            excluded.append(problem)
    _require_two(here, excluded)
    centre = middle_of(here)
    overlaps = find_overlaps(here, centre, parameters)
    while True:
        _require_two(here, excluded)
        scales = fit_scales(here, overlaps, 0)
        reference = _reference(here, scales, overlaps, parameters)
        registration = register(here, overlaps, centre)
        scales = fit_scales(here, overlaps, reference)
        out = _worst(here, overlaps, registration, scales, reference, parameters)
        if not out:
            break
        excluded += out.values()
        kept = [k for k in range(len(here)) if k not in out]
        number = {k: new for new, k in enumerate(kept)}
        here = [here[k] for k in kept]
        overlaps = tuple(
            replace(one, i=number[one.i], j=number[one.j])
            for one in overlaps
            if one.i in number and one.j in number
        )
    absolute = scales.group[reference] == scales.absolute
    return Arrangement(
        tuple(here),
        reference,
        registration.moves,
        10 ** (0.4 * (scales.zero_points[reference] - scales.zero_points)),
        scales.errors,
        scales.zero_points if absolute else np.full(len(here), np.nan),
        scales.zero_point_error,
        registration.rms,
        registration.stars,
        tuple(excluded),
        tuple(_notes(here, scales, registration, parameters)),
    )


def _unusable(stack: MosaicInput) -> Excluded | None:
    try:
        _ = stack.sky
    except ValueError:
        return Excluded(
            stack.name,
            "it has no valid celestial world coordinates (CTYPE1, CRVAL1, CD1_1 of SCI)",
            f"{_CATALOGUE_REMEDY}, or correct the headers of its frames.",
        )
    try:
        _ = stack.blocks
    except ValueError as error:
        return Excluded(
            stack.name, str(error), "Inspect it; its DQ plane flags every pixel, or VAR is not positive."
        )
    return None


def _require_two(stacks: Sequence[MosaicInput], excluded: Sequence[Excluded]) -> None:
    if len(stacks) >= 2:
        return
    why = "; ".join(f"{one.name}: {one.reason}" for one in excluded)
    left = f" ({why})" if why else ""
    raise GroupError(
        f"{counted(len(stacks), 'stack')} can be used, and a mosaic needs two or more{left}.",
        remedy=next((one.remedy for one in excluded if one.remedy), "Select more nights or pointings."),
    )


def signals(stacks: Sequence[MosaicInput], zero_points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the signal to noise of a point source of magnitude 0 in each stack, up to a common factor."""
    return np.array([
        10 ** (0.4 * zero_points[k]) / (math.sqrt(one.blocks.typical) * fwhm(one) * one.sky.scale)
        for k, one in enumerate(stacks)
    ])  # fmt: skip


def fwhm(stack: MosaicInput) -> float:
    """Return the FWHM of the stars of a stack, px; a usual one if it is unknown."""
    return stack.seeing if math.isfinite(stack.seeing) and stack.seeing > 0 else _USUAL_FWHM


def _reference(
    stacks: Sequence[MosaicInput], scales: Scales, overlaps: Sequence[Overlap], parameters: MosaicParameters
) -> int:
    """Return the index of the reference: the named one, or the one with the most signal in the largest group."""
    if parameters.reference:
        wanted = parameters.reference.removesuffix(".fits")
        for k, one in enumerate(stacks):
            if one.name.removesuffix(".fits") == wanted:
                return k
        raise GroupError(
            f"mosaic.reference = {parameters.reference!r} is not among the stacks that can be used: "
            f"{', '.join(one.name for one in stacks)}.",
            remedy="Name one of these.",
        )
    confirmed = _confirmed(stacks, overlaps)
    sizes = [
        int(((scales.group == g) & (confirmed == c)).sum())
        for g, c in zip(scales.group, confirmed, strict=True)
    ]
    power = signals(stacks, scales.zero_points)
    return max(range(len(stacks)), key=lambda k: (sizes[k], power[k], -k))


def _confirmed(stacks: Sequence[MosaicInput], overlaps: Sequence[Overlap]) -> NDArray[np.int64]:
    """Return the group of each stack whose relative positions a catalogue or stars in common confirm."""
    anchored = [k for k, one in enumerate(stacks) if one.position_error is not None]
    return connected(len(stacks), [(one.i, one.j) for one in overlaps if one.stars], anchored)


def _worst(
    stacks: Sequence[MosaicInput],
    overlaps: Sequence[Overlap],
    registration: Registration,
    scales: Scales,
    reference: int,
    parameters: MosaicParameters,
) -> dict[int, Excluded]:
    """Return the stacks to leave out next; the others are then judged again without them."""
    for one in overlaps:
        if one.stars or one.expected < max(_TELLING, parameters.min_matches):
            continue
        weak = _weaker(one.i, one.j, stacks, registration, reference)
        other = one.j if weak == one.i else one.i
        reason = (
            f"its world coordinates disagree with those of {stacks[other].name} by more than mosaic.search = "
            f"{parameters.search:g} arcsec: none of {one.expected} stars in the field that they share agree"
        )
        return {weak: Excluded(stacks[weak].name, reason, f"{_CATALOGUE_REMEDY}, or raise mosaic.search.")}
    rms = registration.rms / np.array([one.sky.scale for one in stacks])
    off = [
        k for k in range(len(stacks))
        if k != reference and rms[k] > parameters.max_rms and (k, rms[k]) == max(
            ((m, rms[m]) for m in range(len(stacks)) if m != reference and np.isfinite(rms[m])), key=lambda p: p[1]
        )
    ]  # fmt: skip
    if off:
        reason = (
            f"its stars are {rms[off[0]]:.2f} px rms from those of the other stacks, and mosaic.max_rms is "
            f"{parameters.max_rms:g}: its world coordinates are distorted or turned"
        )
        return {
            off[0]: Excluded(stacks[off[0]].name, reason, f"{_CATALOGUE_REMEDY}, or raise mosaic.max_rms.")
        }
    distances = [math.hypot(move.xi, move.eta) for move in registration.moves]
    for k in sorted(range(len(stacks)), key=lambda k: (k == reference, -distances[k])):
        stack, distance, expected = stacks[k], distances[k], stacks[k].position_error
        limit = max(parameters.max_rms * stack.sky.scale, _CONTRADICTED * (expected or 0.0))
        if expected is not None and distance > limit:
            reason = f"its stars are {distance:.2f} arcsec from where its world coordinates, from a catalogue, put them"
            return {k: Excluded(stack.name, reason, f"{_CATALOGUE_REMEDY}, or raise mosaic.max_rms.")}
    out: dict[int, Excluded] = {}
    confirmed = _confirmed(stacks, overlaps)
    for k, stack in enumerate(stacks):
        if confirmed[k] != confirmed[reference] and not parameters.trust_coordinates:
            out[k] = Excluded(
                stack.name,
                "its position relative to the others is uncertain: its world coordinates, or theirs, are the "
                "telescope's, and no stars in common confirm them",
                f"{_CATALOGUE_REMEDY}, select stacks that overlap, or allow it: --set mosaic.trust_coordinates=true",
            )
        elif scales.group[k] != scales.group[reference]:
            out[k] = Excluded(
                stack.name,
                f"it cannot be scaled to {stacks[reference].name}: it has no zero point from a catalogue (MAGZSRC) "
                "and no stars in common with the others",
                f"{_CATALOGUE_REMEDY}, or select stacks that overlap.",
            )
        elif scales.errors[k] > parameters.max_scale_error:
            out[k] = Excluded(
                stack.name,
                f"its scale is uncertain by {scales.errors[k]:.2f} mag, and mosaic.max_scale_error is "
                f"{parameters.max_scale_error:g}",
                f"{_CATALOGUE_REMEDY}, or raise mosaic.max_scale_error.",
            )
    return out


def _weaker(i: int, j: int, stacks: Sequence[MosaicInput], registration: Registration, reference: int) -> int:
    """Return which of two stacks that disagree is left out."""

    def strength(k: int) -> tuple[bool, bool, int, float]:
        trusted = stacks[k].position_error is not None
        return trusted, k == reference, int(registration.stars[k]), stacks[k].exposure

    return i if strength(i) < strength(j) else j


def _notes(
    stacks: Sequence[MosaicInput], scales: Scales, registration: Registration, parameters: MosaicParameters
) -> list[str]:
    found = []
    for k, stack in enumerate(stacks):
        deviation, error = scales.deviations[k], stack.zero_point_error or 0.0
        if abs(deviation) > max(_SUSPECT * error, _SUSPECT_MAG):
            found.append(
                f"the zero point of {stack.name} from its catalogue is {deviation:+.2f} mag from what stars in common "
                "with other stacks give"
            )
        if stack.position_error is None and not registration.stars[k]:
            found.append(
                f"{stack.name} is placed by the telescope's world coordinates alone (mosaic.trust_coordinates)"
            )
    return found

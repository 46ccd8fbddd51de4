"""Frames that differ from the others of their set in level, shape over the detector, or noise.

Frames of one set (darks, short darks, lamp-offs, lamp-ons) should be equal, so each is compared with the
median of all. A frame is left out only if a majority of the set agrees without it and it deviates by more
than a floor plus a multiple of the scatter of those that agree: the floor is normal for a working detector or
lamp, the scatter is measured in this set. If no majority agrees, nothing is left out and a warning gives the
figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.calibrations.peer_figures import measure_dim, measure_lit, thinned
from imaging.calibrations.raw_stack import RawStack
from imaging.errors import GroupError
from imaging.parameters import StepParameters, parameter

#: Maximum number of frames that a warning names.
_MOST_NAMED: Final = 6


class PeerParameters(StepParameters):
    """When a frame differs too much from the others of its set."""

    peers: bool = parameter(True, "leave out frames that differ from the others of their set")
    peer_level: float = parameter(
        12.0, "levels of frames without lamp light may differ by this", unit="electron", gt=0
    )
    peer_fraction: float = parameter(
        0.05,
        "or by this fraction of the level, whichever is larger; the same applies to the shape",
        ge=0,
        le=1,
    )
    peer_shape: float = parameter(
        12.0,
        "a block of a frame without lamp light may deviate from the frame's level by this much more than in the others",
        unit="electron",
        gt=0,
    )
    peer_noise: float = parameter(0.3, "the noise of a frame may differ by this fraction", gt=0)
    peer_sigma: float = parameter(
        6.0,
        "added to each limit: this many times the scatter of the figure among the frames that agree",
        unit="sigma",
        ge=0,
    )
    peer_least: int = parameter(
        3, "minimum number of frames that must agree before another is left out; always more than half", ge=2
    )
    peer_pair: float = parameter(
        10.0, "two of three frames may outvote the third if it deviates by this many times the limit", ge=1
    )


class LampPeerParameters(PeerParameters):
    """The same for frames with lamp light, relative to the light."""

    peer_light: float = parameter(0.25, "the light of lamp frames may differ by this fraction", gt=0)
    peer_pattern: float = parameter(
        0.03, "a block of a lamp frame may differ by this fraction from the others, at equal light", gt=0
    )


@dataclass(frozen=True)
class OddFrame:
    """A frame that was left out of a set.

    Parameters
    ----------
    name
        The frame.
    reason
        The figure by which it differs, the limit and the parameter that sets it.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class PeerCheck:
    """The result of comparing the frames of a set.

    Parameters
    ----------
    kept
        Indices of the frames that agree, in order.
    odd
        The frames that do not agree.
    doubts
        Differences beyond a limit for which no majority agrees, so that nothing was left out.
    """

    kept: tuple[int, ...]
    odd: tuple[OddFrame, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Figure:
    """One figure of each frame, its floor, and how it is formatted."""

    name: str
    values: NDArray[np.float64]
    floor: float
    limited_by: str
    write: Callable[[float], str]
    only_above: bool = False


def check_dim(
    what: str, stack: RawStack, sample: NDArray[np.float32], parameters: PeerParameters
) -> PeerCheck:
    """Compare frames without lamp light: darks, short darks, lamp-offs.

    Parameters
    ----------
    what
        Name of the frames in a warning: "darks".
    stack
        The frames.
    sample
        Their sample, `RawStack.sample`.
    parameters
        The limits.
    """

    def figures(chosen: NDArray[np.intp], usual: NDArray[np.bool_]) -> list[_Figure]:
        frames, blocks = thinned(stack, sample)
        frames = frames[chosen]
        level, shape, noise = measure_dim(frames, blocks, usual)
        relative = parameters.peer_fraction * abs(float(np.median(frames)))
        floors = max(parameters.peer_level, relative), max(parameters.peer_shape, relative)
        return [
            _Figure("level", level, floors[0], "peer_level", "{:+.1f} e-".format),
            _Figure("shape", shape, floors[1], "peer_shape", "{:+.1f} e-".format, only_above=True),
            _noise(noise, usual, parameters),
        ]

    return _checked(what, stack, figures, parameters)


def check_lit(
    what: str,
    stack: RawStack,
    sample: NDArray[np.float32],
    dark: NDArray[np.float32],
    parameters: LampPeerParameters,
) -> PeerCheck:
    """Compare frames with lamp light, each pixel relative to the light that it gets.

    Parameters
    ----------
    what, stack, sample, parameters
        As for `check_dim`.
    dark
        The same pixels without lamp light, (pixels,).
    """

    def figures(chosen: NDArray[np.intp], usual: NDArray[np.bool_]) -> list[_Figure]:
        frames, blocks = thinned(stack, sample)
        without, _ = thinned(stack, dark[np.newaxis])
        found = measure_lit(frames[chosen] - without, blocks, usual)
        if found is None:
            return []
        return [
            _Figure("light", found.level, parameters.peer_light, "peer_light", "{:+.1%}".format),
            _Figure(
                "pattern",
                found.shape,
                parameters.peer_pattern,
                "peer_pattern",
                "{:+.1%}".format,
                only_above=True,
            ),
            _noise(found.noise, usual, parameters),
        ]

    return _checked(what, stack, figures, parameters)


def agreeing(
    what: str, stack: RawStack, sample: NDArray[np.float32], check: PeerCheck, least: int
) -> tuple[RawStack, NDArray[np.float32]]:
    """Return the stack of the frames that agree, and its sample, as if the set had no other frames.

    Raises
    ------
    GroupError
        If fewer than ``least`` agree; the error names the frames that differ, with their figures.
    """
    if not check.odd:
        return stack, sample
    if len(check.kept) < least:
        odd = "; ".join(f"{one.name}: {one.reason}" for one in check.odd)
        raise GroupError(
            f"{len(check.kept)} of {len(stack)} {what} agree, {least} are needed. These differ: {odd}.",
            remedy="Add frames of the same configuration, lower the parameter min_frames (min_darks of the mask), or, "
            "if the frames are good, raise the named parameter.",
        )
    kept = stack.only(check.kept)
    return kept, kept.sample()


def outvoted(
    values: NDArray[np.float64], floor: float, parameters: PeerParameters, *, only_above: bool = False
) -> NDArray[np.bool_]:
    """Return which values deviate from those on which a majority agrees.

    This searches for the largest group of neighbouring values such that all others are further from its
    median than ``floor`` plus `peer_sigma` times its scatter. The search continues within the group, because
    a distant outlier makes a moderate one look normal.

    Parameters
    ----------
    values
        One figure of each frame.
    floor
        Differences up to this are normal.
    parameters
        The number of frames that have to agree, and the multiple of their scatter.
    only_above
        Treat values below those of the others as normal.
    """
    odd = np.zeros(len(values), bool)
    while np.ptp(values[~odd]) > floor:
        group = _majority(values, ~odd, floor, parameters, only_above)
        if group is None:
            break
        odd = ~group
    return odd


def _majority(
    values: NDArray[np.float64],
    among: NDArray[np.bool_],
    floor: float,
    parameters: PeerParameters,
    only_above: bool,
) -> NDArray[np.bool_] | None:
    """Return the largest group, smaller than ``among``, whose outsiders exceed its limit; of several, the tightest."""
    order = np.flatnonzero(among)[np.argsort(values[among], kind="stable")]
    y = values[order]
    for size in range(len(y) - 1, 1, -1):
        tolerance = _tolerance(size, len(values), parameters)
        if tolerance is None:
            return None
        found: list[tuple[float, int]] = []
        for start in range(len(y) - size + 1):
            inside = y[start : start + size]
            scatter = float(inside.std(ddof=1))
            off = np.delete(y, np.s_[start : start + size]) - np.median(inside)
            limit = tolerance * (floor + parameters.peer_sigma * scatter)
            if ((off if only_above else np.abs(off)) > limit).all():
                found.append((scatter, start))
        if found:
            _, start = min(found)
            group = np.zeros(len(values), bool)
            group[order[start : start + size]] = True
            return group
    return None


def _tolerance(agreeing: int, total: int, parameters: PeerParameters) -> float | None:
    """Return the factor of the limit if ``agreeing`` frames of ``total`` outvote the rest, otherwise None."""
    if 2 * agreeing <= total:
        return None
    if agreeing >= parameters.peer_least:
        return 1.0
    return parameters.peer_pair if (agreeing, total) == (2, 3) else None


def _checked(
    what: str,
    stack: RawStack,
    figures: Callable[[NDArray[np.intp], NDArray[np.bool_]], list[_Figure]],
    parameters: PeerParameters,
) -> PeerCheck:
    """Leave out frames until the remaining ones agree, or no majority does."""
    total = len(stack)
    names = [raw.name for raw in stack.raws]
    kept = np.arange(total)
    if not parameters.peers or total < 2:
        return PeerCheck(tuple(range(total)))
    reasons: dict[int, str] = {}
    while True:
        found = figures(kept, np.ones(len(kept), np.bool_))
        votes = [outvoted(f.values, f.floor, parameters, only_above=f.only_above) for f in found]
        odd = np.any(votes, axis=0) if votes else np.zeros(len(kept), np.bool_)
        if not odd.any() or _tolerance(total - len(reasons) - int(odd.sum()), total, parameters) is None:
            break
        # The median of all is biased towards the odd ones, so their figures are relative to the median of the
        # others.
        exact = figures(kept, ~odd)
        for k in np.flatnonzero(odd):
            against = [one for one, vote in zip(exact, votes, strict=True) if vote[k]]
            reasons[int(kept[k])] = "; ".join(_reason(int(k), one, ~odd, parameters) for one in against)
        kept = kept[~odd]
    return PeerCheck(
        tuple(int(k) for k in kept),
        tuple(OddFrame(names[k], reasons[k]) for k in sorted(reasons)),
        tuple(
            _doubt(what, one, [names[k] for k in kept])
            for one in found
            if (np.abs(one.values - np.median(one.values)) > one.floor).any()
        ),
    )


def _reason(k: int, figure: _Figure, agreeing: NDArray[np.bool_], parameters: PeerParameters) -> str:
    """Describe the figure of frame ``k`` that exceeds the limit of those that agree."""
    peers = figure.values[agreeing]
    off = float(figure.values[k] - np.median(peers))
    limit = figure.floor + parameters.peer_sigma * float(peers.std(ddof=1))
    return (
        f"{figure.name} {figure.write(off)} from that of the other {len(peers)}, "
        f"at most {figure.write(limit).removeprefix('+')} ({figure.limited_by})"
    )


def _doubt(what: str, figure: _Figure, names: Sequence[str]) -> str:
    off = figure.values - np.median(figure.values)
    order = np.argsort(-np.abs(off), kind="stable")
    named = ", ".join(f"{names[k]} {figure.write(float(off[k]))}" for k in order[:_MOST_NAMED])
    return (
        f"the {what} differ in {figure.name} and no majority agrees without some of them, so all are used: {named} "
        f"from the median (normal is up to {figure.write(figure.floor).removeprefix('+')}, {figure.limited_by})"
    )


def _noise(noise: NDArray[np.float64], usual: NDArray[np.bool_], parameters: PeerParameters) -> _Figure:
    typical = float(np.median(noise[usual]))
    relative = noise / typical - 1 if typical > 0 else np.zeros(len(noise))
    return _Figure("noise", relative, parameters.peer_noise, "peer_noise", "{:+.0%}".format)

"""Frames of a set that are unlike the others: another level, another shape over the detector, other noise.

Frames of one set (darks, short darks, lamp-offs, lamp-ons) show the same, so each is compared with the median of
all. A frame is left out only where a majority of the set agrees without it and it is off by more than a floor plus a
multiple of the scatter among those that agree: the floor is what a working detector or lamp does, the
scatter is what this set does. Where no majority agrees nothing is left out, and a warning gives the figures.
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

#: Frames that a warning names at most.
_MOST_NAMED: Final = 6


class PeerParameters(StepParameters):
    """What makes a frame unlike the others of its set."""

    peers: bool = parameter(True, "leave out frames that are unlike the others of their set")
    peer_level: float = parameter(
        12.0, "levels of frames without lamp light may differ by this", unit="electron", gt=0
    )
    peer_fraction: float = parameter(
        0.05, "or by this fraction of the level, whichever is more; the same holds for the shape", ge=0, le=1
    )
    peer_shape: float = parameter(
        12.0,
        "a block of a frame without lamp light may be this much further off the frame's level than in the others",
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
        3, "fewest frames that have to agree before another is left out; always more than half", ge=2
    )
    peer_pair: float = parameter(
        10.0, "of three frames two may outvote the third where it is beyond this many limits", ge=1
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
    """What comparing the frames of a set gave.

    Parameters
    ----------
    kept
        Indices of the frames that agree, in order.
    odd
        The frames that do not.
    doubts
        Differences beyond a limit where no majority agrees, so that nothing was left out.
    """

    kept: tuple[int, ...]
    odd: tuple[OddFrame, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Figure:
    """One figure of each frame, its floor, and how it is written."""

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
        What the frames are called in a warning: "darks".
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
    """Compare frames with lamp light, each pixel relative to the light it gets.

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
    """Return the stack of the frames that agree, and its sample: what the set would be without the others.

    Raises
    ------
    GroupError
        Where fewer than ``least`` agree; names the frames that are unlike the others, with their figures.
    """
    if not check.odd:
        return stack, sample
    if len(check.kept) < least:
        odd = "; ".join(f"{one.name}: {one.reason}" for one in check.odd)
        raise GroupError(
            f"{len(check.kept)} of {len(stack)} {what} agree, {least} are needed. Unlike the others: {odd}.",
            remedy="Add frames of the same configuration, lower the parameter min_frames (min_darks of the mask), or, "
            "if the frames are good, raise the parameter that is named.",
        )
    kept = stack.only(check.kept)
    return kept, kept.sample()


def outvoted(
    values: NDArray[np.float64], floor: float, parameters: PeerParameters, *, only_above: bool = False
) -> NDArray[np.bool_]:
    """Which values are off those on which a majority agrees.

    The largest group of neighbouring values is looked for whose outsiders are all further from its median
    than ``floor`` plus `peer_sigma` times its scatter. Among the group the search goes on, since the scatter
    of a group with one moderate outlier hides it from one that is far off.

    Parameters
    ----------
    values
        One figure of each frame.
    floor
        Differences up to this are normal.
    parameters
        The number of frames that have to agree, and the multiple of their scatter.
    only_above
        Values below those of the others are normal.
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
    """The largest group, smaller than ``among``, whose outsiders are beyond its limit; of several the tightest."""
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
    """Factor of the limit where ``agreeing`` frames of ``total`` outvote the rest; None where they cannot."""
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
    """Leave frames out until those that are left agree, or no majority does."""
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
        # The median of all is drawn towards the odd ones, so their figures are those from the others' median.
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
    """The figure by which frame ``k`` is beyond the limit of those that agree."""
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

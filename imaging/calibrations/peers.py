"""Frames that differ from the others of their set: in level, shape over the detector, noise or single pixels.

Frames of one set (darks, short darks, lamp-offs, lamp-ons) should be equal, so each is compared with the
median of all. A frame is left out only if a majority of the set agrees without it and it deviates by more
than `peer_sigma` times the scatter of good frames (`imaging.calibrations.peer_votes`). If no majority agrees,
nothing is left out and a warning gives the figures. A frame that no working detector could give
(`imaging.calibrations.plausible`) is left out whatever the others are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from imaging.calibrations.peer_figures import level_to_median, measure_dim, measure_lit, thinned
from imaging.calibrations.peer_votes import factor_of, limit_of, outvoted, undecided
from imaging.calibrations.plausible import implausible_dim, implausible_lit
from imaging.calibrations.raw_stack import RawStack
from imaging.errors import GroupError
from imaging.listed import listed
from imaging.parameters import StepParameters, parameter


class PeerParameters(StepParameters):
    """When a frame differs too much from the others of its set."""

    #: They were limits; now they are scatters, with another sigma and factor for pairs.
    retired: ClassVar[frozenset[str]] = frozenset(
        ("peer_level", "peer_fraction", "peer_shape", "peer_noise", "peer_sigma", "peer_pair")
    )

    peers: bool = parameter(True, "leave out frames that differ from the others of their set")
    peer_sigma: float = parameter(
        6.0, "a frame differs too much beyond this many times the scatter of good frames", unit="sigma", gt=0
    )
    peer_level_rms: float = parameter(
        2.0, "usual scatter of the level of frames without lamp light", unit="electron", gt=0
    )
    peer_fraction_rms: float = parameter(
        0.02,
        "or this fraction of the level, whichever is larger; the same applies to the shape",
        ge=0,
        le=1,
    )
    peer_shape_rms: float = parameter(
        2.0,
        "usual scatter of the block of a frame without lamp light that deviates most from the frame's level",
        unit="electron",
        gt=0,
    )
    peer_noise_rms: float = parameter(0.05, "usual scatter of the noise of a frame, relative", gt=0)
    peer_warm_rms: float = parameter(
        0.03,
        "usual scatter of the charge of warm pixels, relative: it shows exposure time and temperature",
        gt=0,
    )
    peer_deviant_rms: float = parameter(
        0.0003, "usual scatter of the fraction of pixels that deviate from the other frames", gt=0
    )
    peer_least: int = parameter(
        3, "minimum number of frames that must agree before another is left out; always more than half", ge=2
    )
    peer_pair: float = parameter(
        2.0, "two of three frames may outvote the third if it deviates by this many times the limit", ge=1
    )
    peer_most: float = parameter(
        0.34, "the product is doubtful if more than this fraction of a set is left out", ge=0, le=1
    )


class LampPeerParameters(PeerParameters):
    """The same for frames with lamp light, relative to the light."""

    retired: ClassVar[frozenset[str]] = PeerParameters.retired | {"peer_light", "peer_pattern"}

    peer_light_rms: float = parameter(0.05, "usual scatter of the light of lamp frames, relative", gt=0)
    peer_pattern_rms: float = parameter(
        0.005,
        "usual scatter of the block of a lamp frame that deviates most, at equal light, relative",
        gt=0,
    )
    peer_nonlinear: float = parameter(
        0.05, "a lamp frame with more than this fraction of its lit pixels beyond the linear range is left out",
        ge=0, le=1,
    )  # fmt: skip


@dataclass(frozen=True)
class OddFrame:
    """A frame that was left out of a set.

    Parameters
    ----------
    name
        The frame.
    reason
        The figure by which it differs, the limit and the parameter that sets it.
    alone
        The frame is wrong whatever the others are.
    """

    name: str
    reason: str
    alone: bool = False


@dataclass(frozen=True)
class PeerCheck:
    """The result of comparing the frames of a set.

    Parameters
    ----------
    kept
        Indices of the frames that agree, in order.
    odd
        The frames that were left out.
    undecided
        Differences beyond a limit for which no majority agrees, so that nothing was left out.
    """

    kept: tuple[int, ...]
    odd: tuple[OddFrame, ...] = ()
    undecided: tuple[str, ...] = ()


@dataclass(frozen=True)
class Agreed:
    """The frames of a set that agree, as if it had no others.

    Parameters
    ----------
    stack
        The frames.
    sample
        Their sample.
    odd
        The frames that were left out.
    doubts
        Why the product needs a user's judgement: no majority agrees, or too many frames were left out.
    undecided
        No majority agrees.
    """

    stack: RawStack
    sample: NDArray[np.float32]
    odd: tuple[OddFrame, ...]
    doubts: tuple[str, ...]
    undecided: bool

    @property
    def levelled(self) -> NDArray[np.float32]:
        """The sample; with all frames at the median of their levels if no majority agrees."""
        return level_to_median(self.sample) if self.undecided else self.sample


@dataclass(frozen=True)
class _Figure:
    """One figure of each frame, its usual scatter, and how it is formatted."""

    name: str
    values: NDArray[np.float64]
    usual: float
    limited_by: str
    write: Callable[[float], str]
    only_above: bool = False


_Figures = Callable[[NDArray[np.intp], NDArray[np.bool_]], list[_Figure]]


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
    frames, blocks = thinned(stack, sample)

    def figures(chosen: NDArray[np.intp], usual: NDArray[np.bool_]) -> list[_Figure]:
        found = measure_dim(frames[chosen], blocks, usual)
        relative = parameters.peer_fraction_rms * abs(float(np.median(frames[chosen])))
        level, shape = max(parameters.peer_level_rms, relative), max(parameters.peer_shape_rms, relative)
        electrons = "{:+.1f} e-".format
        return [
            _Figure("level", found.level, level, "peer_level_rms", electrons),
            _Figure("shape", found.shape, shape, "peer_shape_rms", electrons, only_above=True),
            _noise(found.noise, usual, parameters),
            _deviant(found.deviant, parameters),
            _Figure(
                "charge of warm pixels",
                found.warm,
                parameters.peer_warm_rms,
                "peer_warm_rms",
                "{:+.0%}".format,
            ),
        ]

    return _checked(what, stack, implausible_dim(stack, frames), figures, parameters)


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
    frames, blocks = thinned(stack, sample)
    without, _ = thinned(stack, dark[np.newaxis])

    def figures(chosen: NDArray[np.intp], usual: NDArray[np.bool_]) -> list[_Figure]:
        found = measure_lit(frames[chosen] - without, blocks, usual)
        if found is None:
            return []
        percent = "{:+.1%}".format
        return [
            _Figure("light", found.level, parameters.peer_light_rms, "peer_light_rms", percent),
            _Figure(
                "pattern", found.shape, parameters.peer_pattern_rms, "peer_pattern_rms", percent, only_above=True
            ),
            _noise(found.noise, usual, parameters),
            _deviant(found.deviant, parameters),
        ]  # fmt: skip

    odd = implausible_lit(stack, frames, without[0], parameters.peer_nonlinear)
    return _checked(what, stack, odd, figures, parameters)


def agreeing(
    what: str,
    stack: RawStack,
    sample: NDArray[np.float32],
    check: PeerCheck,
    parameters: PeerParameters,
    least: int,
) -> Agreed:
    """Return the frames that agree, and what makes the product doubtful.

    Parameters
    ----------
    what, stack, sample, check, parameters
        As for and from `check_dim` or `check_lit`.
    least
        Number of frames below which the product is doubtful.

    Raises
    ------
    GroupError
        If fewer than two frames are left (one, if ``least`` is 1); the error names the others, with their
        figures.
    """
    if not check.odd:
        return Agreed(stack, sample, (), check.undecided, bool(check.undecided))
    total, left = len(stack), len(check.kept)
    if left < min(least, 2):
        odd = "; ".join(f"{one.name}: {one.reason}" for one in check.odd)
        raise GroupError(
            f"{left} of {total} {what} are usable, {min(least, 2)} are needed. These are not: {odd}.",
            remedy="Add frames of the same configuration, or, if the frames are good, change the limits named above.",
        )
    doubts = check.undecided
    out = total - left
    if left < least or out > parameters.peer_most * total:
        doubts += (f"{out} of {total} {what} were left out, so the {left} others may be the wrong ones",)
    kept = stack.only(check.kept)
    return Agreed(kept, kept.sample(), check.odd, doubts, bool(check.undecided))


def _checked(
    what: str,
    stack: RawStack,
    implausible: Mapping[int, str],
    figures: _Figures,
    parameters: PeerParameters,
) -> PeerCheck:
    """Leave out implausible frames, then others until the remaining ones agree, or no majority does."""
    names = [raw.name for raw in stack.raws]
    kept = np.array([k for k in range(len(stack)) if k not in implausible], np.intp)
    odd = {k: OddFrame(names[k], reason, alone=True) for k, reason in implausible.items()}
    total = len(kept)
    undecided_now: tuple[str, ...] = ()
    while parameters.peers and len(kept) > 1:
        found = figures(kept, np.ones(len(kept), np.bool_))
        votes = [outvoted(f.values, f.usual, parameters, only_above=f.only_above) for f in found]
        out = np.any(votes, axis=0) if votes else np.zeros(len(kept), np.bool_)
        left = len(kept) - int(out.sum())
        if not out.any() or factor_of(left, total, parameters) is None:
            undecided_now = tuple(
                _undecided(what, one, [names[k] for k in kept])
                for one, vote in zip(found, votes, strict=True)
                if vote.any() or undecided(one.values, one.usual, parameters)
            )
            break
        # The median of all is biased towards the odd ones, so their figures are relative to the median of the
        # others.
        exact = figures(kept, ~out)
        again = [outvoted(f.values, f.usual, parameters, only_above=f.only_above) for f in exact]
        if (both := out & np.any(again, axis=0)).any():  # a good frame may look odd next to a biased median
            out, votes = both, again
        for k in np.flatnonzero(out):
            against = [one for one, vote in zip(exact, votes, strict=True) if vote[k]]
            reason = "; ".join(_reason(int(k), one, ~out, parameters, total) for one in against)
            odd[int(kept[k])] = OddFrame(names[kept[k]], reason)
        kept = kept[~out]
    return PeerCheck(tuple(int(k) for k in kept), tuple(odd[k] for k in sorted(odd)), undecided_now)


def _reason(
    k: int, figure: _Figure, agreeing: NDArray[np.bool_], parameters: PeerParameters, total: int
) -> str:
    """Describe the figure of frame ``k`` that exceeds the limit of those that agree."""
    peers = figure.values[agreeing]
    off = float(figure.values[k] - np.median(peers))
    limit = limit_of(peers, figure.usual, parameters, total)
    return (
        f"{figure.name} {figure.write(off)} from that of the other {len(peers)}, {abs(off) / limit.sigma:.0f} sigma, "
        f"at most {figure.write(limit.value).removeprefix('+')} ({figure.limited_by})"
    )


def _undecided(what: str, figure: _Figure, names: Sequence[str]) -> str:
    off = figure.values - np.median(figure.values)
    order = np.argsort(-np.abs(off), kind="stable")
    named = listed(f"{names[k]} {figure.write(float(off[k]))}" for k in order)
    return (
        f"the {what} differ in {figure.name} and no majority agrees without some of them, so all are used: {named} "
        f"from the median (usual scatter {figure.write(figure.usual).removeprefix('+')}, {figure.limited_by})"
    )


def _noise(noise: NDArray[np.float64], usual: NDArray[np.bool_], parameters: PeerParameters) -> _Figure:
    typical = float(np.median(noise[usual]))
    relative = noise / typical - 1 if typical > 0 else np.zeros(len(noise))
    return _Figure("noise", relative, parameters.peer_noise_rms, "peer_noise_rms", "{:+.0%}".format)


def _deviant(share: NDArray[np.float64], parameters: PeerParameters) -> _Figure:
    return _Figure(
        "share of deviant pixels", share, parameters.peer_deviant_rms, "peer_deviant_rms", "{:+.2%}".format,
        only_above=True,
    )  # fmt: skip

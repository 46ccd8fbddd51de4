"""The comparison of frames measured on simulated sets: how often it finds a fault, and how often it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.faults import Fault
from benchmarks.peers.frames import LIT, SETS, Camera, MemoryFrame, SetName, Variations
from imaging.calibrations.lamp import LampParameters
from imaging.calibrations.peers import PeerCheck, check_dim, check_lit
from imaging.calibrations.raw_stack import RawStack

#: Sizes of the sets of the detection curves.
SIZES: Final = (3, 5, 10, 36)
_MEMORY: Final = 64 * 2**20
_ROWS: Final = 16
#: Sets of a night, and their frames.
_NIGHT: Final[dict[SetName, int]] = {
    "darks": 10, "short darks": 7, "lamp-ons": 4, "lamp-offs": 6, "thermal lamp-offs": 6,
}  # fmt: skip
#: Number of frames without light that the light of lamp frames is measured from.
_WITHOUT: Final = 6

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Chance:
    """How often a fault of one size is found in sets of one number of frames.

    Attributes
    ----------
    size, frames, trials
        Size of the fault, frames of the set, sets tried.
    found
        Fraction of the sets from which the frame was left out.
    warned
        Fraction in which it was not, but a warning gave its figure or the set was refused.
    lost
        Good frames that were left out, of all sets.
    """

    size: float
    frames: int
    trials: int
    found: float
    warned: float
    lost: int


@dataclass(frozen=True)
class Alarms:
    """What happened to good frames.

    Attributes
    ----------
    sets, frames
        Sets compared, and their frames.
    left_out, warnings
        Frames left out, and warnings.
    examples
        The first few of them as text.
    """

    sets: int
    frames: int
    left_out: int
    warnings: int
    examples: tuple[str, ...]


class Pool:
    """Good frames of one camera, from which sets are drawn."""

    def __init__(self, size: int, seed: int, most: int, variations: Variations | None = None) -> None:
        self.camera = Camera(size, seed, variations or Variations())
        self._most = most
        self._frames: dict[SetName, list[MemoryFrame]] = {}

    def draw(self, of: SetName, n: int, rng: np.random.Generator) -> list[MemoryFrame]:
        """Return ``n`` different good frames."""
        frames = self._frames.setdefault(of, [])
        while len(frames) < self._most:
            frames.append(self.camera.frame(of))
        return [frames[k] for k in rng.choice(len(frames), n, replace=False)]

    def without_light(self, of: SetName) -> list[MemoryFrame]:
        """Return the frames that are subtracted from lamp frames of a set."""
        dim: SetName = "short darks" if SETS[of][2] == SETS["short darks"][2] else "lamp-offs"
        return self.draw(dim, _WITHOUT, np.random.default_rng(0))


def compare(of: SetName, frames: Sequence[MemoryFrame], without: Sequence[MemoryFrame] = ()) -> PeerCheck:
    """Compare the frames of a set as a reduction does."""
    stack = RawStack(frames, rows=_ROWS, memory=_MEMORY)
    sample = stack.sample()
    parameters = LampParameters()
    if of not in LIT:
        return check_dim(of, stack, sample, parameters)
    return check_lit(of, stack, sample, _dark_sample(stack, without), parameters)


def _dark_sample(stack: RawStack, without: Sequence[MemoryFrame]) -> NDArray[np.float32]:
    rows = [np.concatenate([one.rows(b).ravel() for b in stack.sample_bands]) for one in without]
    return np.asarray(np.mean(rows, axis=0) * stack.facts.gain, np.float32)


def chances(
    fault: Fault, size: int, seeds: Sequence[int], trials: int, pools: dict[int, Pool]
) -> list[Chance]:
    """Measure how often a fault is found, for each of its sizes and each number of frames.

    Parameters
    ----------
    fault
        The fault.
    size
        Rows and columns of the frames.
    seeds
        Seeds of the detectors.
    trials
        Sets for each detector, size and number of frames.
    pools
        Good frames of each seed; filled here.
    """
    found = []
    for strength in fault.sizes:
        counts = {n: np.zeros(3, int) for n in SIZES}
        for seed in seeds:
            pool = pools.setdefault(seed, Pool(size, seed, max(SIZES)))
            rng = np.random.default_rng([seed, round(strength * 1000)])
            without = pool.without_light(fault.of) if fault.of in LIT else ()
            for _ in range(trials):
                bad = fault.make(pool.camera, fault.of, strength, rng)
                for n in SIZES:
                    frames = pool.draw(fault.of, n - 1, rng)
                    frames.insert(int(rng.integers(n)), bad)
                    counts[n] += _outcome(bad, compare(fault.of, frames, without))
        total = trials * len(seeds)
        for n, (out, warned, lost) in counts.items():
            found.append(Chance(strength, n, total, out / total, warned / total, int(lost)))
    return found


def _outcome(bad: MemoryFrame, check: PeerCheck) -> tuple[bool, bool, int]:
    """Return whether the frame was left out, whether it was only warned of, and the good frames left out."""
    names = [one.name for one in check.odd]
    out = bad.name in names
    warned = not out and any(bad.name in text for text in check.undecided)
    return out, warned, len(names) - out


def sampled_lines(size: int) -> NDArray[np.intp]:
    """Return the rows that a comparison of a set of a night reads."""
    few = Camera(128, 0, Variations()).frame("darks")
    few.shape = (size, size)
    stack = RawStack([few] * max(_NIGHT.values()), rows=_ROWS, memory=_MEMORY)
    return np.concatenate([np.arange(band.start, band.stop) for band in stack.sample_bands])


def alarms(size: int, nights: int, variations: Variations, announce: Announce) -> Alarms:
    """Compare the sets of nights on which nothing is wrong.

    Parameters
    ----------
    size
        Rows and columns.
    nights
        Number of nights, each with its own detector.
    variations
        How good frames differ.
    announce
        Called with the number of each tenth night.
    """
    sets = frames = left_out = warnings = 0
    examples: list[str] = []
    lines = sampled_lines(size)
    for night in range(nights):
        if night % 10 == 0:
            announce(f"{size} px, night {night + 1} of {nights}")
        camera = Camera(size, 1000 + night, variations, lines)
        taken = {of: [camera.frame(of) for _ in range(n)] for of, n in _NIGHT.items()}
        for of, every in taken.items():
            dim = "short darks" if SETS[of][2] == SETS["short darks"][2] else "lamp-offs"
            check = compare(of, every, taken[dim] if of in LIT else ())
            sets, frames = sets + 1, frames + len(every)
            left_out, warnings = left_out + len(check.odd), warnings + len(check.undecided)
            texts = [*(f"{one.name}: {one.reason}" for one in check.odd), *check.undecided]
            examples += [f"night {night + 1}, {of}, {text}" for text in texts]
    return Alarms(sets, frames, left_out, warnings, tuple(examples[:10]))

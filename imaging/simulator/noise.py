"""Random numbers by counter: the numbers of a pixel depend only on the frame's key and the pixel's position.

So the bytes of a frame do not depend on the number of threads, on the order of the pixels, or on other draws.
The generator is SplitMix64 (Steele, Lea and Flood 2014, OOPSLA), started for each pixel from a mixed key.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_TO_UNIT = 1.0 / 9007199254740992.0  # 2^-53

#: Means above this are drawn from the normal approximation with the skewness of a Poisson distribution.
POISSON_NORMAL_FROM = 100.0


@njit(cache=True, nogil=True)
def mix(state: np.uint64) -> np.uint64:
    """Spread the bits of ``state`` (SplitMix64's finaliser)."""
    state = (state ^ (state >> _S30)) * _MIX_1
    state = (state ^ (state >> _S27)) * _MIX_2
    return state ^ (state >> _S31)


@njit(cache=True, nogil=True)
def start(key: np.uint64, counter: np.uint64) -> np.uint64:
    """Return the state of the stream number ``counter`` of ``key``."""
    return mix(key + mix(counter + _GOLDEN))


@njit(cache=True, nogil=True)
def uniform(state: np.uint64) -> tuple[np.uint64, float]:
    """Return the next state and a number in (0, 1)."""
    state = state + _GOLDEN
    return state, (float(mix(state) >> _S11) + 0.5) * _TO_UNIT


@njit(cache=True, nogil=True)
def normal(state: np.uint64) -> tuple[np.uint64, float, float]:
    """Return the next state and two independent standard normal numbers (Box and Muller 1958)."""
    state, u = uniform(state)
    state, v = uniform(state)
    r = math.sqrt(-2.0 * math.log(u))
    angle = 2.0 * math.pi * v
    return state, r * math.cos(angle), r * math.sin(angle)


@njit(cache=True, nogil=True)
def poisson(state: np.uint64, mean: float, z: float) -> tuple[np.uint64, float]:
    """Return the next state and a Poisson number of ``mean``; ``z`` is a standard normal number for large means.

    Small means are inverted exactly, by summing the distribution; above `POISSON_NORMAL_FROM` the number is
    ``mean + sqrt(mean) z + (z^2 - 1) / 6`` (Cornish and Fisher's first two terms), rounded.
    """
    if mean <= 0.0:
        return state, 0.0
    if mean > POISSON_NORMAL_FROM:
        return state, max(0.0, math.floor(mean + math.sqrt(mean) * z + (z * z - 1.0) / 6.0 + 0.5))
    state, u = uniform(state)
    term = math.exp(-mean)
    total = term
    count = 0.0
    while u > total and count < 1000.0:
        count += 1.0
        term *= mean / count
        total += term
    return state, count

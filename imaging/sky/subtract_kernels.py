"""Kernels of the sky subtraction: one sorted stack of a block of pixels serves all frames, each without itself.

A frame and its sky frames are sorted together, two complete rows of values at a time (which the compiler
turns into vector instructions). The next frame mostly has the same set, or one that differs by a few frames: those
that left are replaced in the sorted stack and in the sums by those that came, in one pass for each, and nothing is
sorted or summed again. The values without the frame's own, their median and extremes are then read from the sorted
stack, for most pixels at once, for others singly. Values and variances are rounded such that their sums are exact, so
the result does not depend on the order. The kernels release the GIL and keep no state.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ, UNUSABLE
from imaging.pixels.median_kernels import sort_rows

_UNUSABLE = np.uint16(UNUSABLE)
_NO_DATA = np.uint16(DQ.NO_DATA)
_OVERLAP = np.uint16(DQ.OVERLAP)
#: Pixels in a block: 2 kB of each frame are read in one piece, and the values of a hundred frames stay in the cache of
#: a core. Blocks of 256 take a quarter longer.
BLOCK = 512
#: No pixel has as many electrons, or as large a variance; a larger one (or NaN) would corrupt the sums.
_ABSURD = 1e9
#: Values (electrons) and variances are rounded to multiples of 2^-14 by adding and subtracting this: then sums of
#: 500 of the largest are exact.
_ROUNDING = 1.5 * 2.0**38
#: A set is sorted again if more frames change than this many per pass of a sort.
_WORTH_SORTING = 0.4
#: Where so many values lack, because of sources and bad pixels, all pixels are still done at once.
_MAY_LACK = 8
#: Content of a frame at a pixel.
_NOTHING, _SOURCE, _SKY = 0, 1, 2


@njit(cache=True, nogil=True)
def _without(ordered, b, k, me):  # type: ignore[no-untyped-def]
    """Return the k-th of the sorted values of column b, without ``me`` (inf: none)."""
    return ordered[k, b] if ordered[k, b] < me else ordered[k + 1, b]


@njit(cache=True, nogil=True)
def _median_of_sky(ordered, b, own, noise_of_own, state_of_own, c, noise, median_factor):  # type: ignore[no-untyped-def]
    """Return the median of column b without the frame's own value, and its variance."""
    # Positions at its value or above move down by one.
    me = np.float32(np.inf)
    if state_of_own == _SKY:
        me, c, noise = own, c - 1, noise - noise_of_own
    lower = np.float64(_without(ordered, b, (c - 1) // 2, me))
    return 0.5 * (lower + _without(ordered, b, c // 2, me)), median_factor[c] * noise / (c * c)


@njit(cache=True, nogil=True)
def subtract_band(  # type: ignore[no-untyped-def]
    sci, var, dq, mask, flat_variance, selection, target, factor, shift, low, high, median_factor, flagged
):
    """Subtract the sky, measured in its sky frames, from each frame in place.

    Parameters
    ----------
    sci, var, dq
        Rows of all frames, (n, rows, nx), float32, float32, uint16; they contain the result afterwards
        (frames that are not targets are unchanged).
    mask
        1 where a frame has a source, uint8 (n, rows, nx), or of size 0 without masks.
    flat_variance
        Relative variance of the flat, float32 (rows, nx), or of size 0.
    selection
        ``selection[i, j]``: frame j is a sky frame of frame i, boolean (n, n), False on the diagonal.
    target
        Frames to subtract from, boolean (n,).
    factor, shift
        ``factor * sci + shift`` shifts every frame's sky near zero, float64 (n,).
    low, high
        Thresholds of the clipping in sigma.
    median_factor
        Empty for the clipped mean; for the median, its variance relative to that of the mean of 0 to n
        values.
    flagged
        Increased by the numbers of pixels with new `DQ.OVERLAP` and `DQ.NO_DATA`, int64 (n, 2).
    """
    n, ny, nx = sci.shape
    values = np.zeros((n, BLOCK), np.float32)
    noises = np.zeros((n, BLOCK), np.float32)
    state = np.zeros((n, BLOCK), np.uint8)
    ordered = np.empty((n + 1, BLOCK), np.float32)
    member = np.zeros(n, np.bool_)
    total, noise = np.zeros(BLOCK), np.zeros(BLOCK)
    count, content = np.zeros(BLOCK, np.int32), np.zeros(BLOCK, np.int32)
    found = np.empty((4, BLOCK), np.float32)
    at = np.empty((3, BLOCK), np.int32)
    few, few_noises = np.empty(n, np.float64), np.empty(n, np.float64)
    low2, high2 = low * low, high * high
    flat = flat_variance.size > 0
    skies, spreads, left = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    simple, empty = np.empty(BLOCK, np.bool_), np.empty(BLOCK, np.bool_)
    for y in range(ny):
        for x0 in range(0, nx, BLOCK):
            width = min(BLOCK, nx - x0)
            _load(sci, var, dq, mask, factor, shift, y, x0, width, values, noises, state)
            member[:] = False
            for i in range(n):
                if not target[i]:
                    continue
                _change_set(
                    selection[i], i, member, values, noises, state, ordered, total, noise, count, content
                )
                if median_factor.size == 0:
                    others = np.flatnonzero(selection[i])
                    _complete(
                        ordered, values[i], noises[i], state[i], others.size, total, noise, count, low2, high2,
                        skies, spreads, simple, found, at,
                    )  # fmt: skip
                    _complete_others(
                        ordered, values, noises, state, others, i, total, noise, count, low2, high2,
                        skies, spreads, simple,
                    )  # fmt: skip
                else:
                    simple[:] = False
                back = 1.0 / factor[i]
                own, flags = values[i], dq[i, y, x0 : x0 + width]
                light, variance = sci[i, y, x0 : x0 + width], var[i, y, x0 : x0 + width]
                empty[:] = False
                for b in range(width):
                    if simple[b]:
                        continue
                    c = 0
                    if content[b] > 0:  # as outside the light, and where every frame has a bad pixel
                        if count[b] > (state[i, b] == _SKY):
                            skies[b], spreads[b] = _median_of_sky(
                                ordered, b, own[b], noises[i, b], state[i, b], count[b], noise[b], median_factor
                            )  # fmt: skip
                            continue
                        c = _gather_sources(selection[i], values, noises, state, b, few, few_noises)
                    if c == 0:
                        flagged[i, 1] += (flags[b] & _UNUSABLE) == 0
                        flags[b] |= _NO_DATA if (flags[b] & _UNUSABLE) == 0 else np.uint16(0)
                        skies[b], spreads[b], empty[b] = 0.0, 0.0, True
                        continue
                    skies[b], spreads[b] = _median(few, few_noises, c)
                    flagged[i, 0] += (flags[b] & _OVERLAP) == 0
                    flags[b] |= _OVERLAP
                for b in range(width):
                    difference = (np.float64(own[b]) - skies[b]) * back
                    left[b] = 0.0 if empty[b] else difference
                    spreads[b] = variance[b] + spreads[b] * back * back
                    light[b] = np.float32(left[b])
                if flat:
                    relative = flat_variance[y, x0 : x0 + width]
                    for b in range(width):
                        spreads[b] += left[b] * left[b] * relative[b]
                for b in range(width):
                    variance[b] = np.float32(spreads[b])


@njit(cache=True, nogil=True)
def _pick(row, after, own, at, k, out):  # type: ignore[no-untyped-def]
    """Take the k-th of the sorted values without the frame's own where it is wanted."""
    wanted = np.int32(k)
    for b in range(BLOCK):  # one array written in a loop of its own: the compiler turns more into branches
        x, y = row[b], after[b]
        value = x if x < own[b] else y
        out[b] = value if at[b] == wanted else out[b]


@njit(cache=True, nogil=True, error_model="numpy")
def _complete(  # type: ignore[no-untyped-def]
    ordered, me, noise_of_me, state_of_me, size, total, noise, count, low2, high2, skies, spreads, simple,
    found, at,
):  # fmt: skip
    """Compute the clipped means of the columns where few values lack and nothing is clipped; mark them ``simple``.

    Those are most columns. Positions in the sorted rows differ by a few rows between them, so every row that may be
    wanted is offered to all, which the compiler turns into vector instructions. ``size`` is the number of sky frames;
    ``found`` and ``at`` are working space.
    """
    own, lower, upper, last = found[0], found[1], found[2], found[3]
    enough = max(1, size - _MAY_LACK)
    least = size
    for b in range(BLOCK):
        # Without the frame itself: positions at its value or above move down by one.
        is_sky = state_of_me[b] == _SKY
        own[b] = me[b] if is_sky else np.float32(np.inf)
        n = count[b] - np.int32(is_sky)
        at[0, b], at[1, b], at[2, b] = (n - 1) >> 1, n >> 1, n - 1
        least = min(least, n if n >= enough else size)
    for k in range((least - 1) // 2, size // 2 + 1):
        _pick(ordered[k], ordered[k + 1], own, at[0], k, lower)
        _pick(ordered[k], ordered[k + 1], own, at[1], k, upper)
    for k in range(least - 1, size):
        _pick(ordered[k], ordered[k + 1], own, at[2], k, last)
    row, after = ordered[0], ordered[1]
    for b in range(BLOCK):
        is_sky = state_of_me[b] == _SKY
        x, y = row[b], after[b]
        middle = 0.5 * (np.float64(lower[b]) + np.float64(upper[b]))
        below = middle - np.float64(x if x < own[b] else y)
        above = np.float64(last[b]) - middle
        remaining = at[2, b] + 1
        n = np.float64(max(remaining, 1))
        limit = (noise[b] - (np.float64(noise_of_me[b]) if is_sky else 0.0)) / n
        kept = (below * below <= low2 * limit) & (above * above <= high2 * limit)
        simple[b] = (kept | (remaining <= 2)) & (remaining >= enough)
        skies[b] = (total[b] - (np.float64(own[b]) if is_sky else 0.0)) / n
        spreads[b] = limit / n


@njit(cache=True, nogil=True)
def _complete_others(  # type: ignore[no-untyped-def]
    ordered, values, noises, state, others, i, total, noise, count, low2, high2, skies, spreads, simple
):
    """Compute the clipped means of the other columns that have any sky; mark them ``simple``.

    Values beyond the thresholds about the median are left out. Sigma comes from the mean variance of the remaining
    values: a value's own variance follows its own noise, so that high values would be kept more easily than low ones.
    Of two values, neither can be identified as wrong.
    """
    for b in range(BLOCK):
        if simple[b]:
            continue
        # Without the frame itself: positions at its value or above move down by one.
        me = np.float32(np.inf)
        c, mean, spread = count[b], total[b], noise[b]
        if state[i, b] == _SKY:
            me = values[i, b]
            c, mean, spread = c - 1, mean - me, spread - noises[i, b]
        if c < 1:
            continue
        first, last = 0, c
        while last - first > 2:
            n = last - first
            k, upper = first + (n - 1) // 2, first + n // 2
            least = ordered[first, b] if ordered[first, b] < me else ordered[first + 1, b]
            most = ordered[last - 1, b] if ordered[last - 1, b] < me else ordered[last, b]
            middle = np.float64(ordered[k, b] if ordered[k, b] < me else ordered[k + 1, b])
            middle = 0.5 * (middle + (ordered[upper, b] if ordered[upper, b] < me else ordered[upper + 1, b]))
            below = (middle - least) ** 2 / low2
            above = (most - middle) ** 2 / high2
            if max(below, above) * n <= spread:
                break
            # One at a time, the more distant first, so that a cosmic ray does not cause the rejection of a good
            # value.
            gone = most if above >= below else least
            if above >= below:
                last -= 1
            else:
                first += 1
            mean -= gone
            for j in others:
                if values[j, b] == gone and state[j, b] == _SKY:
                    spread -= noises[j, b]
                    break
        n = last - first
        skies[b], spreads[b], simple[b] = mean / n, spread / n / n, True


@njit(cache=True, nogil=True)
def _load(sci, var, dq, mask, factor, shift, y, x0, width, values, noises, state):  # type: ignore[no-untyped-def]
    """Load the values of a block near zero sky, their variances, and the content of each frame there."""
    for j in range(sci.shape[0]):
        f, z, square = factor[j], shift[j], factor[j] * factor[j]
        light, variance, flags = (
            sci[j, y, x0 : x0 + width],
            var[j, y, x0 : x0 + width],
            dq[j, y, x0 : x0 + width],
        )
        value, noise, content = values[j], noises[j], state[j]
        for b in range(width):
            value[b] = np.float32(((f * light[b] + z) + _ROUNDING) - _ROUNDING)
        for b in range(width):
            noise[b] = np.float32((square * variance[b] + _ROUNDING) - _ROUNDING)
        for b in range(width):
            usable = ((flags[b] & _UNUSABLE) == 0) & (abs(value[b]) < _ABSURD) & (noise[b] < _ABSURD)
            content[b] = _SKY if usable else _NOTHING
        if mask.size > 0:
            source = mask[j, y, x0 : x0 + width]
            for b in range(width):
                kept = content[b]
                content[b] = _SOURCE if (source[b] != 0) & (kept == _SKY) else kept


@njit(cache=True, nogil=True)
def _change_set(  # type: ignore[no-untyped-def]
    chosen, me, member, values, noises, state, ordered, total, noise, count, content
):
    """Turn the sorted set of ``member``, and its sums, into those of a frame and its sky frames.

    The sums are those of the sky values, of their variances, and the numbers of sky values and of frames that have
    anything.
    """
    gone, came, size = 0, 0, 0
    for j in range(member.size):
        wanted = chosen[j] or j == me
        gone += member[j] and not wanted
        came += wanted and not member[j]
        size += wanted
    changes = max(gone, came)
    if changes == 0:
        return
    if gone != came or changes > _WORTH_SORTING * _passes(size):
        m = 0
        total[:] = 0.0
        noise[:] = 0.0
        count[:] = 0
        content[:] = 0
        for j in range(member.size):
            member[j] = chosen[j] or j == me
            if member[j]:
                _sky_or_infinite(values[j], state[j], ordered[m])
                _add(values[j], noises[j], state[j], 1, total, noise, count, content)
                m += 1
        sort_rows(ordered, m)
        ordered[m, :] = np.inf
        return
    out, into = -1, -1
    old, new = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for _ in range(changes):
        out, into = out + 1, into + 1
        while not member[out] or chosen[out] or out == me:
            out += 1
        while member[into] or not (chosen[into] or into == me):
            into += 1
        _sky_or_infinite(values[out], state[out], old)
        _sky_or_infinite(values[into], state[into], new)
        _replace(ordered, size, old, new)
        _add(values[out], noises[out], state[out], -1, total, noise, count, content)
        _add(values[into], noises[into], state[into], 1, total, noise, count, content)
        member[out], member[into] = False, True


@njit(cache=True, nogil=True)
def _passes(m):  # type: ignore[no-untyped-def]
    """Return how often `sort_rows` compares each of m rows with another."""
    stages = 0
    while 1 << stages < m:
        stages += 1
    return 0.25 * stages * (stages + 1)


@njit(cache=True, nogil=True)
def _sky_or_infinite(values, state, out):  # type: ignore[no-untyped-def]
    """Copy the sky values of a frame's block; infinity where it has none."""
    for b in range(BLOCK):
        value = values[b]
        out[b] = value if state[b] == _SKY else np.float32(np.inf)


@njit(cache=True, nogil=True)
def _replace(ordered, m, old, new):  # type: ignore[no-untyped-def]
    """Replace ``old``, which each column has, by ``new`` in m sorted rows that infinity follows."""
    left = np.empty(BLOCK, np.float32)
    for k in range(m):
        row, after = ordered[k], ordered[k + 1]
        for b in range(BLOCK):
            x, y = row[b], after[b]
            left[b] = x if x < old[b] else y
        for b in range(BLOCK):  # a separate loop: the compiler turns both into vector instructions
            x, y = left[b], new[b]
            row[b] = x if x < y else y
            new[b] = y if x < y else x


@njit(cache=True, nogil=True)
def _add(values, noises, state, sign, total, noise, count, content):  # type: ignore[no-untyped-def]
    """Add a frame's block to the sums, or subtract it; both are exact."""
    for b in range(BLOCK):
        sky = state[b] == _SKY
        value, variance = np.float64(values[b]), np.float64(noises[b])
        total[b] += sign * value if sky else 0.0
        noise[b] += sign * variance if sky else 0.0
    one = np.int32(sign)
    for b in range(BLOCK):
        count[b] += one if state[b] == _SKY else np.int32(0)
        content[b] += one if state[b] != _NOTHING else np.int32(0)


@njit(cache=True, nogil=True)
def _gather_sources(chosen, values, noises, state, b, few, few_noises):  # type: ignore[no-untyped-def]
    """Collect column b of the chosen frames that have a source there; return their number."""
    c = 0
    for j in range(chosen.size):
        if chosen[j] and state[j, b] == _SOURCE:
            few[c] = values[j, b]
            few_noises[c] = noises[j, b]
            c += 1
    return c


@njit(cache=True, nogil=True)
def _median(few, few_noises, c):  # type: ignore[no-untyped-def]
    """Return the median of sky frames that all have a source here, and its variance (pi / 2 of the mean's, for many).

    Sources only add light, so the lowest value would contain the least of it; its noise, however, would bias
    the sky by more than a sigma where an extended source covers the field.
    """
    return np.median(few[:c]), 0.5 * math.pi * few_noises[:c].sum() / (c * c)

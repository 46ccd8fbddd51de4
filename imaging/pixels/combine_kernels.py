"""The kernel behind `imaging.pixels.combine`.

Pixels are processed in blocks. The values of a block are sorted by a sorting network, with compare-and-swaps
of two complete rows of the block, which the compiler turns into vector instructions; this gives every pixel's
median and extremes. Nearly every pixel has only good inputs and no value beyond the thresholds, and is then
finished. The others are processed singly by `_one_pixel`, which handles levels and rejection.

All kernels are in one long file because numba's cache only checks the file of the called function for
changes, and would keep using the old code of functions in other files.
"""

from __future__ import annotations

import numba
import numpy as np

#: Pixels in a block: for stacks of about ten frames its sorted values stay in the fastest caches.
_BLOCK = 256
#: Operations and rejections, as `imaging.pixels.combine` numbers them.
_WMEAN, _MEDIAN = 1, 2
_NONE, _MINMAX, _SIGMA, _VARIANCE = 0, 1, 2, 3
#: Gaps of a Shell sort, narrowest last (Ciura 2001): cheaper than a general sort for tens of values.
_GAPS = np.array([701, 301, 132, 57, 23, 10, 4, 1], dtype=np.int64)


@numba.njit(cache=True, nogil=True)
def _sort(values, n):  # type: ignore[no-untyped-def]
    """Sort the first n values in place."""
    for gap in _GAPS:
        for i in range(gap, n):
            value = values[i]
            j = i
            while j >= gap and values[j - gap] > value:
                values[j] = values[j - gap]
                j -= gap
            values[j] = value


@numba.njit(cache=True, nogil=True)
def _middle(ordered, first, last):  # type: ignore[no-untyped-def]
    """Return the median of the sorted values [first, last)."""
    upper = first + (last - first) // 2
    lower = upper if (last - first) % 2 else upper - 1
    return 0.5 * (np.float64(ordered[lower]) + np.float64(ordered[upper]))


@numba.njit(cache=True, nogil=True)
def _clip_sigma(ordered, m, low, high, rounds):  # type: ignore[no-untyped-def]
    """Return the range [first, last) of m sorted values kept by population-sigma clipping about the median."""
    first, last = 0, m
    for _ in range(rounds):
        total = 0.0
        for k in range(first, last):
            total += ordered[k]
        mean = total / (last - first)
        square = 0.0
        for k in range(first, last):
            square += (ordered[k] - mean) ** 2
        sigma = np.sqrt(square / (last - first))
        median = _middle(ordered, first, last)
        kept_first, kept_last = first, last
        while kept_first < last and ordered[kept_first] < median - low * sigma:
            kept_first += 1
        while kept_last > kept_first and ordered[kept_last - 1] > median + high * sigma:
            kept_last -= 1
        if kept_first == kept_last:  # never all of them: the value nearest the median stays
            nearest = np.inf
            for k in range(first, last):
                nearest = min(nearest, abs(ordered[k] - median))
            while abs(ordered[first] - median) > nearest:
                first += 1
            while abs(ordered[last - 1] - median) > nearest:
                last -= 1
            break
        if kept_first == first and kept_last == last:
            break
        first, last = kept_first, kept_last
    return first, last


@numba.njit(cache=True, nogil=True)
def _clip_variance(values, variances, used, ordered, low, high, rounds, pool):  # type: ignore[no-untyped-def]
    """Iteratively remove values from ``used`` that are further from the median than the variances allow."""
    n = values.size
    for _ in range(rounds):
        m = 0
        for i in range(n):
            if used[i]:
                ordered[m] = variances[i]
                m += 1
        _sort(ordered, m)
        pooled = _middle(ordered, 0, m)
        m = 0
        for i in range(n):
            if used[i]:
                ordered[m] = values[i]
                m += 1
        _sort(ordered, m)
        median = _middle(ordered, 0, m)
        beyond, nearest = 0, np.inf
        for i in range(n):
            if used[i]:
                off = values[i] - median
                nearest = min(nearest, abs(off))
                threshold = high if off > 0 else low
                if off * off > threshold * threshold * (pooled if pool else np.float64(variances[i])):
                    beyond += 1
        if beyond == 0:
            break
        for i in range(n):
            if used[i]:
                off = values[i] - median
                threshold = high if off > 0 else low
                if beyond == m:  # never all of them: the value nearest the median stays
                    used[i] = abs(off) <= nearest
                elif off * off > threshold * threshold * (pooled if pool else np.float64(variances[i])):
                    used[i] = 0
        if beyond == m:
            break


@numba.njit(cache=True, nogil=True)
def _extremes(n, m, nlow, nhigh):  # type: ignore[no-untyped-def]
    """Return how many of m values to drop at either end if a full stack of n drops ``nlow`` and ``nhigh``."""
    drop_low, drop_high = (nlow * m + n // 2) // n, (nhigh * m + n // 2) // n
    while drop_low + drop_high >= m:  # never all of them: the value nearest the median stays
        if drop_low >= drop_high:
            drop_low -= 1
        else:
            drop_high -= 1
    return drop_low, drop_high


@numba.njit(cache=True, nogil=True)
def _drop_extremes(values, used, m, nlow, nhigh):  # type: ignore[no-untyped-def]
    """Remove the lowest and highest of the m values from ``used``, in proportion to a full stack."""
    n = values.size
    drop_low, drop_high = _extremes(n, m, nlow, nhigh)
    for drop in range(drop_low + drop_high):
        sign = 1.0 if drop < drop_low else -1.0
        worst = -1
        for i in range(n):
            if used[i] and (worst < 0 or sign * values[i] < sign * values[worst]):
                worst = i
        used[worst] = 0


@numba.njit(cache=True, nogil=True)
def _select_level(values, variances, bits, used, level_bits):  # type: ignore[no-untyped-def]
    """Set ``used`` to 1 for the inputs at the least bad level; return their number."""
    n, without_value = values.size, level_bits.size + 1
    least = without_value
    for i in range(n):
        level = 0
        for k in range(level_bits.size):
            if bits[i] & level_bits[k]:
                level = k + 1
        if not (np.isfinite(values[i]) and np.isfinite(variances[i])):
            level = without_value
        used[i] = level
        least = min(least, level)
    m = 0
    for i in range(n):
        used[i] = 1 if used[i] == least and least != without_value else 0
        m += used[i]
    return m


@numba.njit(cache=True, nogil=True)
def _one_pixel(  # type: ignore[no-untyped-def]
    values, variances, bits, used, ordered, weights,
    operation, reject, low, high, rounds, nlow, nhigh, pool, level_bits, factors,
):  # fmt: skip
    """Combine one pixel's inputs; return (value, variance, dq, count)."""
    n = values.size
    m = _select_level(values, variances, bits, used, level_bits)
    if m == 0:
        every = level_bits[level_bits.size - 1]
        for i in range(n):
            every |= bits[i]
        return 0.0, 0.0, every, 0

    if reject == _MINMAX:
        _drop_extremes(values, used, m, nlow, nhigh)
    elif reject == _VARIANCE:
        _clip_variance(values, variances, used, ordered, low, high, rounds, pool)
    elif reject == _SIGMA:
        m = 0
        for i in range(n):
            if used[i]:
                ordered[m] = values[i]
                m += 1
        _sort(ordered, m)
        first, last = _clip_sigma(ordered, m, low, high, rounds)
        lowest, highest = ordered[first], ordered[last - 1]
        for i in range(n):
            if used[i]:
                used[i] = lowest <= values[i] <= highest

    count, dq = 0, bits[0] & 0
    total, weight, variance = 0.0, 0.0, 0.0
    for i in range(n):
        if used[i]:
            ordered[count] = values[i]
            count += 1
            dq |= bits[i]
            total += weights[i] * values[i]
            weight += weights[i]
            variance += weights[i] * weights[i] * variances[i]
    variance /= weight * weight
    if operation == _MEDIAN:
        _sort(ordered, count)
        return _middle(ordered, 0, count), variance * factors[count], dq, count
    return total / weight, variance, dq, count


@numba.njit(cache=True, nogil=True)
def _load(x, v, scale, zero, rescale, value, noise):  # type: ignore[no-untyped-def]
    """Copy one input's part of a block, scaled."""
    if rescale:
        for k in range(x.size):
            value[k] = scale * x[k] + zero
            noise[k] = scale * scale * v[k]
    else:
        for k in range(x.size):
            value[k] = x[k]
            noise[k] = v[k]


@numba.njit(cache=True, nogil=True)
def _sort_block(ordered, network):  # type: ignore[no-untyped-def]
    """Sort every column of ``ordered`` with the network's compare-and-swaps."""
    for pair in range(network.shape[0]):
        a, b = ordered[network[pair, 0]], ordered[network[pair, 1]]
        for k in range(a.size):
            p, q = a[k], b[k]
            a[k] = p if p < q else q
            b[k] = q if p < q else p


@numba.njit(cache=True, nogil=True)
def _weigh(values, weights, total):  # type: ignore[no-untyped-def]
    """Return the sum of weight x value over the inputs, in their order, for every column."""
    for k in range(total.size):
        total[k] = 0.0
    for i in range(values.shape[0]):
        row, w = values[i], weights[i]
        for k in range(total.size):
            total[k] += w * np.float64(row[k])


@numba.njit(cache=True, nogil=True)
def _weigh_between(values, rows, weights, lowest, highest, total):  # type: ignore[no-untyped-def]
    """Return the sum of weight x row over the inputs with values from ``lowest`` to ``highest``, for every column."""
    for k in range(total.size):
        total[k] = 0.0
    for i in range(values.shape[0]):
        value, row, w = values[i], rows[i], weights[i]
        for k in range(total.size):
            kept = (value[k] >= lowest[k]) & (value[k] <= highest[k])
            total[k] += w * np.float64(row[k]) if kept else 0.0


@numba.njit(cache=True, nogil=True)
def _tied_extremes(ordered, first, last, hard):  # type: ignore[no-untyped-def]
    """Mark the columns where the sorted values [first, last) are not all distinct from the others."""
    if first > 0:
        out, kept = ordered[first - 1], ordered[first]
        for k in range(hard.size):
            hard[k] |= out[k] == kept[k]
    if last < ordered.shape[0]:
        out, kept = ordered[last], ordered[last - 1]
        for k in range(hard.size):
            hard[k] |= out[k] == kept[k]


@numba.njit(cache=True, nogil=True)
def _beyond_sigma(values, ordered, low, high, middle, centre, spread, hard):  # type: ignore[no-untyped-def]
    """Mark the columns whose extremes population-sigma clipping would reject."""
    n = values.shape[0]
    for k in range(spread.size):
        spread[k] = 0.0
        centre[k] = 0.0
    for i in range(n):
        row = values[i]
        for k in range(spread.size):
            centre[k] += np.float64(row[k])
    for k in range(spread.size):
        centre[k] /= n
    for i in range(n):
        row = values[i]
        for k in range(spread.size):
            off = np.float64(row[k]) - centre[k]
            spread[k] += off * off
    lowest, highest = ordered[0], ordered[n - 1]
    for k in range(spread.size):
        sigma = np.sqrt(spread[k] / n)
        hard[k] |= (lowest[k] < middle[k] - low * sigma) | (highest[k] > middle[k] + high * sigma)


@numba.njit(cache=True, nogil=True)
def _beyond_variance(ordered, least_var, low, high, middle, hard):  # type: ignore[no-untyped-def]
    """Mark the columns whose extremes would be rejected with the smallest of the variances."""
    lowest, highest = ordered[0], ordered[ordered.shape[0] - 1]
    for k in range(hard.size):
        below, above = middle[k] - lowest[k], highest[k] - middle[k]
        hard[k] |= (below * below > low * low * least_var[k]) | (above * above > high * high * least_var[k])


@numba.njit(cache=True, nogil=True)
def combine_pixels(  # type: ignore[no-untyped-def]
    sci, var, dq, scale, zero, weights, rescale,
    operation, reject, low, high, rounds, nlow, nhigh, pool,
    level_bits, network, factors, out_sci, out_var, out_dq, out_count,
):  # fmt: skip
    """Combine (n, pixels) planes into (pixels,) planes; see `imaging.pixels.combine.combine`.

    Parameters
    ----------
    sci, var, dq
        float32, float32 and uint16, C-contiguous (n, pixels).
    scale, zero, weights
        float64 (n,); ``rescale`` states whether the first two have an effect.
    operation, reject
        Their codes: mean, wmean, median; none, minmax, sigma, variance.
    low, high, rounds, nlow, nhigh, pool
        As in `imaging.pixels.combine.CombineParameters`.
    level_bits
        uint16: the bits that make a pixel bad, least bad first; the last one means no data.
    network
        int32 (pairs, 2): a sorting network for n values.
    factors
        float64 (n + 1,): the median factor by the number of values.
    out_sci, out_var, out_dq, out_count
        (pixels,) planes to fill.
    """
    n, n_pixels = sci.shape
    values = np.empty((n, _BLOCK), np.float32)
    variances = np.empty((n, _BLOCK), np.float32)
    ordered = np.empty((n, _BLOCK), np.float32)
    least_var = np.empty(_BLOCK, np.float32)
    finite = np.empty(_BLOCK, np.float32)
    any_bits = np.empty(_BLOCK, np.uint16)
    hard = np.empty(_BLOCK, np.bool_)
    total = np.empty(_BLOCK, np.float64)
    variance = np.empty(_BLOCK, np.float64)
    middle = np.zeros(_BLOCK, np.float64)
    centre = np.empty(_BLOCK, np.float64)
    spread = np.empty(_BLOCK, np.float64)
    one_values = np.empty(n, np.float32)
    one_variances = np.empty(n, np.float32)
    one_bits = np.empty(n, np.uint16)
    one_used = np.empty(n, np.int64)
    one_ordered = np.empty(n, np.float32)
    squared = weights * weights
    ones = np.ones((n, _BLOCK), np.float32)
    weight = np.empty(_BLOCK, np.float64)
    _weigh(ones, weights, weight)
    first, last = 0, n  # the sorted values that a full stack keeps
    if reject == _MINMAX:
        drop_low, drop_high = _extremes(n, n, nlow, nhigh)
        first, last = drop_low, n - drop_high
    levels = level_bits[0] & 0
    for bit in level_bits:
        levels |= bit

    for start in range(0, n_pixels, _BLOCK):
        width = min(_BLOCK, n_pixels - start)
        stop = start + width
        # The last block is padded with zeros, which are processed but not written.
        any_bits[:] = 0
        finite[:] = 0
        least_var[:] = np.inf
        for i in range(n):
            value, noise = values[i], variances[i]
            if width < _BLOCK:
                value[width:] = 0
                noise[width:] = 0
            _load(
                sci[i, start:stop],
                var[i, start:stop],
                scale[i],
                zero[i],
                rescale,
                value[:width],
                noise[:width],
            )
            rank, bits = ordered[i], dq[i, start:stop]
            for k in range(_BLOCK):
                rank[k] = value[k]
                # 0 as long as everything is finite, NaN from then on
                finite[k] += (value[k] + noise[k]) * np.float32(0)
                least_var[k] = noise[k] if noise[k] < least_var[k] else least_var[k]
            for k in range(width):
                any_bits[k] |= bits[k]
        for k in range(_BLOCK):
            hard[k] = ((any_bits[k] & levels) != 0) | (finite[k] != 0)

        if operation == _MEDIAN or reject != _NONE:
            _sort_block(ordered, network)
            lower, upper = ordered[(first + last - 1) // 2], ordered[(first + last) // 2]
            for k in range(_BLOCK):
                middle[k] = 0.5 * (np.float64(lower[k]) + np.float64(upper[k]))
        if reject == _SIGMA:
            _beyond_sigma(values, ordered, low, high, middle, centre, spread, hard)
        elif reject == _VARIANCE:
            _beyond_variance(ordered, least_var, low, high, middle, hard)

        if reject == _MINMAX:
            for k in range(_BLOCK):
                hard[k] |= any_bits[k] != 0
            _tied_extremes(ordered, first, last, hard)
            lowest, highest = ordered[first], ordered[last - 1]
            _weigh_between(values, variances, squared, lowest, highest, variance)
            _weigh_between(values, values, weights, lowest, highest, total)
            _weigh_between(values, ones, weights, lowest, highest, weight)
            for k in range(_BLOCK):
                weight[k] = 1.0 if hard[k] else weight[k]  # may be 0 there, and is not used
        else:
            _weigh(variances, squared, variance)
            _weigh(values, weights, total)
        factor = factors[last - first] if operation == _MEDIAN else 1.0
        for k in range(width):
            out_sci[start + k] = middle[k] if operation == _MEDIAN else total[k] / weight[k]
            out_var[start + k] = variance[k] / (weight[k] * weight[k]) * factor
            out_dq[start + k] = any_bits[k]
            out_count[start + k] = last - first
        for k in range(width):
            if hard[k]:
                for i in range(n):
                    one_values[i], one_variances[i] = values[i, k], variances[i, k]
                    one_bits[i] = dq[i, start + k]
                result = _one_pixel(
                    one_values, one_variances, one_bits, one_used, one_ordered, weights,
                    operation, reject, low, high, rounds, nlow, nhigh, pool, level_bits, factors,
                )  # fmt: skip
                out_sci[start + k] = result[0]
                out_var[start + k] = result[1]
                out_dq[start + k] = result[2]
                out_count[start + k] = result[3]

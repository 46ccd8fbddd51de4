"""The kernel behind `imaging.detrend.prepare`: one pass over a band of raw pixels."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def prepare_rows(  # type: ignore[no-untyped-def]
    raw, bpm, lit, has_bpm, has_lit, gain, coadds, floor, pedestal, saturation, linear_limit, lowest, highest,
    linearise, c1, c2, c3, time_scale, bits, sci, var, dq,
):  # fmt: skip
    """Compute electrons, variance and quality of raw rows; see `imaging.detrend.prepare.prepare`.

    Parameters
    ----------
    raw
        int32 or float32 (rows, nx), ADU.
    bpm, lit
        uint16 and uint8 (rows, nx), used if ``has_bpm`` and ``has_lit`` are set.
    gain, floor, pedestal
        Electrons per ADU, variance without light and electrons without shot noise of the frame.
    coadds
        Exposures in the sum, as a float.
    saturation, linear_limit
        ADU of the sum.
    lowest, highest
        A pixel outside of these values, or NaN, has no data: its value is set to 0.
    linearise, c1, c2, c3
        Whether the electrons of one coadd are corrected, and the coefficients of the cubic.
    time_scale
        Part of the coefficients that scales charge to the exposure time: shot noise is that of the charge.
    bits
        uint16: the DQ bits non-linear, saturated, no data, unilluminated.
    sci, var, dq
        float32, float32, uint16 (rows, nx), filled.
    """
    non_linear, saturated, no_data, unilluminated, good = bits[0], bits[1], bits[2], bits[3], bits[4]
    for y in range(raw.shape[0]):
        line, values, variances, quality = raw[y], sci[y], var[y], dq[y]
        # Simple loops without branches: the compiler turns each into vector instructions.
        if linearise:
            for x in range(line.size):
                electrons = np.float64(line[x]) * gain
                one = electrons / coadds
                slope = c1 + one * (2 * c2 + one * 3 * c3)
                electrons *= c1 + one * (c2 + one * c3)
                light = electrons - pedestal
                values[x] = electrons
                variances[x] = floor * slope * slope + (time_scale * light if light > 0 else 0.0)
        else:
            for x in range(line.size):
                electrons = np.float64(line[x]) * gain
                light = electrons - pedestal
                values[x] = electrons
                variances[x] = floor + (light if light > 0 else 0.0)
        for x in range(line.size):
            adu = np.float64(line[x])
            bit = saturated if adu >= saturation else (non_linear if adu > linear_limit else good)
            quality[x] = bit if (adu >= lowest) & (adu <= highest) else no_data  # NaN too
        for x in range(line.size):
            without = quality[x] == no_data
            values[x] = np.float32(0.0) if without else values[x]
            variances[x] = np.float32(floor) if without else variances[x]
        if has_bpm:
            bad = bpm[y]
            for x in range(line.size):
                quality[x] |= bad[x]
        if has_lit:
            light_here = lit[y]
            for x in range(line.size):
                quality[x] |= unilluminated if light_here[x] == 0 else good

"""Kernels of the detrending. They release the GIL and keep no state."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ

_GOOD: Final = np.uint16(DQ.GOOD)
_NO_DATA: Final = np.uint16(DQ.NO_DATA)
#: A flat with one of these bits has no measured response.
_NO_RESPONSE: Final = np.uint16(DQ.BAD_PIXEL | DQ.NO_DATA | DQ.UNILLUMINATED)


# Where the flat is 0, the quotient is not used: no check that would raise an error.
@njit(cache=True, nogil=True, error_model="numpy")
def calibrate(  # type: ignore[no-untyped-def]
    sci, var, dq, dark, dark_var, dark_dq, flat, flat_var, flat_dq
):
    """Subtract the dark and divide by the flat, in place; planes of size 0 are missing.

    The variance of a / f with independent noises: (var_a + (a / f)^2 var_f) / f^2.
    """
    for y in range(sci.shape[0]):
        light, noise, flags = sci[y], var[y], dq[y]
        # Simple loops without branches: the compiler turns each into vector instructions.
        if dark.size > 0:
            level, bits = dark[y], dark_dq[y]
            for x in range(light.size):
                light[x] -= level[x]
            for x in range(light.size):
                flags[x] |= bits[x]
            if dark_var.size > 0:
                of_dark = dark_var[y]
                for x in range(light.size):
                    noise[x] += of_dark[x]
        if flat.size > 0:
            response, bits = flat[y], flat_dq[y]
            for x in range(light.size):
                flags[x] |= bits[x] | (_GOOD if response[x] > 0 else _NO_DATA)
            for x in range(light.size):
                known = ((bits[x] & _NO_RESPONSE) == 0) & (response[x] > 0)
                value = light[x] / response[x]
                light[x] = value if known else np.float32(0.0)
            if flat_var.size > 0:
                uncertain = flat_var[y]
                for x in range(light.size):
                    more = light[x] * light[x] * uncertain[x]
                    noise[x] += more if light[x] != 0 else np.float32(0.0)
            for x in range(light.size):
                known = ((bits[x] & _NO_RESPONSE) == 0) & (response[x] > 0)
                value = noise[x] / (response[x] * response[x])
                noise[x] = value if known else noise[x]


@njit(cache=True, nogil=True)
def rows_with(dq, bits):  # type: ignore[no-untyped-def]
    """Return for each row whether any of its pixels has one of the bits, bool (ny,)."""
    found = np.zeros(dq.shape[0], np.bool_)
    for y in range(dq.shape[0]):
        together, line = np.uint16(0), dq[y]
        for x in range(line.size):
            together |= line[x]
        found[y] = (together & bits) != 0
    return found


@njit(cache=True, nogil=True)
def count_flagged(dq, bits):  # type: ignore[no-untyped-def]
    """Return the number of pixels with one of the bits."""
    total = 0
    for y in range(dq.shape[0]):
        here, line = np.uint32(0), dq[y]
        for x in range(line.size):
            here += np.uint32((line[x] & bits) != 0)
        total += int(here)
    return total

"""Kernel of the meshes: medians of a frame and of the sky subtracted from it, in blocks. It releases the GIL."""

from __future__ import annotations

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ

#: Pixels without a measurement of the light of the sky; pixels behind sources of every sky frame have one.
_BLIND = np.uint16(
    DQ.BAD_PIXEL | DQ.SATURATED | DQ.COSMIC_RAY | DQ.NO_DATA | DQ.UNILLUMINATED | DQ.GLOW
)  # fmt: skip


@njit(cache=True, nogil=True)
def mesh_medians(light, left, dq, mask, size, step, least, out):  # type: ignore[no-untyped-def]
    """Write medians of the light, medians of what was subtracted, and masked shares of blocks to ``out``.

    Every ``step``-th pixel of every ``step``-th row is used, from the middle of a step: sources wider than a block
    need no more. Masked pixels count only where more than half of a block is masked: stars are left out, and the core
    of an extended source is not.

    Parameters
    ----------
    light
        Those rows of the frame before its sky was subtracted, float32 (sampled rows, nx).
    left, dq
        The frame afterwards, (ny, nx).
    mask
        1 on sources, uint8 (ny, nx), or of size 0.
    size, step
        Side of a block, and distance of the pixels used.
    least
        Fewest usable pixels of a block; fewer give NaN.
    out
        float32 (3, rows, columns).
    """
    ny, nx = left.shape
    masked = mask.size > 0
    most = (size // step + 1) ** 2
    before, taken = np.empty(most, np.float32), np.empty(most, np.float32)
    clear_before, clear_taken = np.empty(most, np.float32), np.empty(most, np.float32)
    for r in range(out.shape[1]):
        for c in range(out.shape[2]):
            n, clear = 0, 0
            for y in range(r * size + step // 2, min(ny, (r + 1) * size), step):
                for x in range(c * size + step // 2, min(nx, (c + 1) * size), step):
                    if (dq[y, x] & _BLIND) == 0:
                        value = light[y // step, x]
                        before[n], taken[n] = value, value - left[y, x]
                        if not (masked and mask[y, x] != 0):
                            clear_before[clear], clear_taken[clear] = before[n], taken[n]
                            clear += 1
                        n += 1
            if n < least:
                out[:, r, c] = np.nan
                continue
            if 2 * clear >= n:
                out[0, r, c], out[1, r, c] = np.median(clear_before[:clear]), np.median(clear_taken[:clear])
            else:
                out[0, r, c], out[1, r, c] = np.median(before[:n]), np.median(taken[:n])
            out[2, r, c] = (n - clear) / n

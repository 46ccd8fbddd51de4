"""Kernel of the meshes: medians of a frame, or of a stack, in blocks. It releases the GIL."""

from __future__ import annotations

import numpy as np
from numba import njit

from imaging.pixels.dq import DQ

#: Pixels without a measurement of the light of the sky; pixels behind sources of every sky frame have one.
_BLIND = np.uint16(
    DQ.BAD_PIXEL | DQ.SATURATED | DQ.COSMIC_RAY | DQ.NO_DATA | DQ.UNILLUMINATED | DQ.GLOW
)  # fmt: skip


@njit(cache=True, nogil=True)
def mesh_medians(light, dq, mask, size, step, least, out):  # type: ignore[no-untyped-def]
    """Write medians of the light and masked shares of blocks to ``out``.

    Every ``step``-th pixel of every ``step``-th row is used, from the middle of a step: sources wider than a block
    need no more. Masked pixels count only where more than half of a block is masked: stars are left out, and the core
    of an extended source is not.

    Parameters
    ----------
    light
        Those rows of the image, float32 (sampled rows, nx).
    dq
        Its quality, uint16 (ny, nx).
    mask
        1 on sources, uint8 (ny, nx), or of size 0.
    size, step
        Side of a block, and distance of the pixels used.
    least
        Fewest usable pixels of a block; fewer give NaN.
    out
        float32 (2, rows, columns).
    """
    ny, nx = dq.shape
    masked = mask.size > 0
    most = (size // step + 1) ** 2
    values, clear_values = np.empty(most, np.float32), np.empty(most, np.float32)
    for r in range(out.shape[1]):
        for c in range(out.shape[2]):
            n, clear = 0, 0
            for y in range(r * size + step // 2, min(ny, (r + 1) * size), step):
                for x in range(c * size + step // 2, min(nx, (c + 1) * size), step):
                    if (dq[y, x] & _BLIND) == 0:
                        values[n] = light[y // step, x]
                        if not (masked and mask[y, x] != 0):
                            clear_values[clear] = values[n]
                            clear += 1
                        n += 1
            if n < least:
                out[:, r, c] = np.nan
                continue
            out[0, r, c] = np.median(clear_values[:clear]) if 2 * clear >= n else np.median(values[:n])
            out[1, r, c] = (n - clear) / n

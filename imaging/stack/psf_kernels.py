"""Kernels that predict a frame's pixels from the template, blotted and convolved to the frame's seeing."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from imaging.pixels.dq import LEVELS
from imaging.stack.template_kernels import FEW, NOT_LINEAR, PARTIAL

#: A pixel without these bits is at the good level of `imaging.pixels.combine`.
_NOT_GOOD = np.uint16(sum(int(bit) for bit in LEVELS))
#: What a pixel of the template shows (`mark_sources`), in the order in which neighbours prevail.
SKY: Final = 0
SOURCE: Final = 1
EDGE: Final = 2
DISTRUSTED: Final = 3
UNKNOWN: Final = 4
#: A pixel belongs to a peak if it has more than this share of the brightest of its 3 x 3 pixels.
PEAK: Final = 0.7
#: A value of the template this near to one that is not linear is not trusted: half-width of the box, px.
SUSPECT_REACH: Final = 3


@njit(cache=True, nogil=True)
def mark_sources(template, suspect, bright, reach, out):  # type: ignore[no-untyped-def]
    """Mark the surroundings of bright pixels, which are to be convolved, those that are not linear, and the unknown.

    Parameters
    ----------
    template, suspect
        float32 and uint8 (ny, nx), as from `imaging.stack.template_kernels.take_median`.
    bright : float
        Level of a source.
    reach : int
        Distance, along rows and columns, to which the light of a source is spread, px.
    out : uint8 (ny, nx)
        Written: `SKY`, `SOURCE`, `EDGE` (a source that not all of the sharpest frames show), `DISTRUSTED` or, with
        too few values, `UNKNOWN`.
    """
    ny, nx = template.shape
    out[:] = SKY
    for y in range(ny):
        for x in range(nx):
            if template[y, x] > bright:
                for j in range(max(0, y - reach), min(ny, y + reach + 1)):
                    for i in range(max(0, x - reach), min(nx, x + reach + 1)):
                        out[j, i] = max(out[j, i], SOURCE)
    for y in range(ny):
        for x in range(nx):
            if out[y, x] == SOURCE and suspect[y, x] & PARTIAL:
                out[y, x] = EDGE
    distrust(suspect, SUSPECT_REACH, out)


@njit(cache=True, nogil=True)
def distrust(suspect, reach, out):  # type: ignore[no-untyped-def]
    """Mark the surroundings of pixels that are not linear, and the unknown ones.

    Parameters
    ----------
    suspect, out
        See `mark_sources`; ``out`` is changed.
    reach : int
        Distance, along rows and columns, to which the light of a pixel matters, px.
    """
    ny, nx = suspect.shape
    for y in range(ny):
        for x in range(nx):
            if suspect[y, x] & NOT_LINEAR:
                for j in range(max(0, y - reach), min(ny, y + reach + 1)):
                    for i in range(max(0, x - reach), min(nx, x + reach + 1)):
                        out[j, i] = max(out[j, i], DISTRUSTED)
            if suspect[y, x] & FEW:
                out[y, x] = UNKNOWN


@njit(cache=True, nogil=True)
def _bent(bend, x, y):  # type: ignore[no-untyped-def]
    """Return where pixel (x, y) of a distorted frame would be without distortion."""
    ex, ey = 0.0, 0.0
    for j in range(bend.shape[1] - 1, -1, -1):
        row_x, row_y = 0.0, 0.0
        for i in range(bend.shape[2] - 1 - j, -1, -1):
            row_x, row_y = row_x * x + bend[0, j, i], row_y * x + bend[1, j, i]
        ex, ey = ex * y + row_x, ey * y + row_y
    return x + ex, y + ey


@njit(cache=True, nogil=True)
def _position(to_grid, bend, x, y, steps):  # type: ignore[no-untyped-def]
    """Return pixel and phase of the template at pixel (x, y) of the frame."""
    if bend.shape[1] > 0:
        x, y = _bent(bend, float(x), float(y))
    else:
        x, y = float(x), float(y)
    u = to_grid[0] * x + to_grid[1] * y + to_grid[4]
    v = to_grid[2] * x + to_grid[3] * y + to_grid[5]
    iu, iv = int(np.floor(u)), int(np.floor(v))
    fu, fv = u - iu, v - iv
    if steps == 1:
        return iu, iv, 0, fu, fv
    a, b = int(fu * steps + 0.5), int(fv * steps + 0.5)
    if a == steps:
        iu, a = iu + 1, 0
    if b == steps:
        iv, b = iv + 1, 0
    return iu, iv, b * steps + a, fu, fv


@njit(cache=True, nogil=True)
def _sum(template, kernel, iu, iv, reach):  # type: ignore[no-untyped-def]
    """Return the template times the kernel at a pixel; beyond the edges there is sky."""
    ny, nx = template.shape
    taps = kernel.shape[0]
    top, left = iv - reach, iu - reach
    first, last = max(0, -left), min(taps, nx - left)
    total = np.float32(0.0)
    for j in range(max(0, -top), min(taps, ny - top)):
        row = template[top + j, left + first : left + last]
        line = kernel[j, first:last]
        part = np.float32(0.0)
        for i in range(last - first):
            part += line[i] * row[i]
        total += part
    return total


@njit(cache=True, nogil=True)
def basis_values(template, kernels, to_grid, bend, steps, xs, ys, out):  # type: ignore[no-untyped-def]
    """Compute the template, convolved with every kernel of the basis, at pixels of a frame.

    Parameters
    ----------
    template : float32 (ny, nx)
        The median.
    kernels : float32 (phases, terms, taps, taps)
        Kernels at the phases of a pixel (`imaging.stack.psf_matching`).
    to_grid : float64 (6,)
        xx, xy, yx, yy, x0, y0 from frame, without distortion, to template.
    bend : float64 (2, n, n)
        What removes the distortion of the frame: coefficients of what is added to x and y, by the powers of y and x; n
        is 0 without distortion.
    steps : int
        Phases along one axis.
    xs, ys : int64 (n,)
        Pixels of the frame.
    out : float64 (n, terms)
        Written.
    """
    reach = kernels.shape[2] // 2 - 1
    for k in range(len(xs)):
        iu, iv, phase, _, _ = _position(to_grid, bend, xs[k], ys[k], steps)
        for t in range(kernels.shape[1]):
            out[k, t] = _sum(template, kernels[phase, t], iu, iv, reach)


@njit(cache=True, nogil=True)
def predict_rows(template, kinds, kernels, to_grid, bend, steps, first, factor, model, state):  # type: ignore[no-untyped-def]
    """Predict rows of a frame: bilinear on sky, convolved under sources.

    Parameters
    ----------
    template, kinds
        float32, and uint8 as from `mark_sources`, (ny, nx).
    kernels : float32 (phases, taps, taps)
        The frame's kernel at the phases of a pixel.
    to_grid, bend, steps
        See `basis_values`.
    first : int
        Row of the frame that is row 0 of the outputs.
    factor : float32
        From the template's electrons to the frame's, on sky.
    model : float32 (rows, nx)
        Written; NaN where the template has too few values.
    state : uint8 (rows, nx)
        Written: the kind of the nearest pixels of the template.
    """
    ny, nx = template.shape
    reach = kernels.shape[1] // 2 - 1
    shift = to_grid[0] == 1.0 and to_grid[1] == 0.0 and to_grid[2] == 0.0 and to_grid[3] == 1.0
    shift = shift and bend.shape[1] == 0
    for y in range(model.shape[0]):
        iu, iv, phase, fu, fv = _position(to_grid, bend, 0, y + first, steps)
        iu -= 1
        for x in range(model.shape[1]):
            if shift:
                iu += 1
            else:
                iu, iv, phase, fu, fv = _position(to_grid, bend, x, y + first, steps)
            if not (0 <= iu < nx - 1 and 0 <= iv < ny - 1):
                model[y, x], state[y, x] = np.nan, SKY
                continue
            kind = max(max(kinds[iv, iu], kinds[iv + 1, iu + 1]), max(kinds[iv + 1, iu], kinds[iv, iu + 1]))
            state[y, x] = kind
            if kind == UNKNOWN:
                model[y, x] = np.nan
                continue
            if kind != SKY:
                model[y, x] = _sum(template, kernels[phase], iu, iv, reach)
                continue
            a, b = template[iv, iu], template[iv, iu + 1]
            c, d = template[iv + 1, iu], template[iv + 1, iu + 1]
            model[y, x] = factor * ((1 - fv) * ((1 - fu) * a + fu * b) + fv * ((1 - fu) * c + fu * d))


@njit(cache=True, nogil=True)
def even_out(template, kinds, kernels, weights, first, dq, out):  # type: ignore[no-untyped-def]
    """Correct the weighted mean, under sources, for the frames that lack a pixel.

    Without a frame of other seeing, the mean of a pixel is that of other stars. Added is the mean of what the
    template predicts for all frames, less that for the frames that have a value: nothing on sky.

    Parameters
    ----------
    template, kinds
        float32 and uint8 (ny, nx).
    kernels : float32 (n, taps, taps)
        Kernels of the frames at the template's own pixels.
    weights : float64 (n,)
        Weights of the frames, with the sum 1.
    first : int
        Row of the template that is row 0 of the band.
    dq : uint16 (n, rows, nx)
        Data quality of the resampled frames.
    out : float32 (rows, nx)
        Changed where at least half of the frames, but not all, have a value.
    """
    n, rows, nx = dq.shape
    reach = kernels.shape[1] // 2 - 1
    for y in range(rows):
        for x in range(nx):
            if kinds[first + y, x] == SKY:
                continue
            good = 0
            for j in range(n):
                good += (dq[j, y, x] & _NOT_GOOD) == 0
            if good == n or 2 * good < n:
                continue
            everything = some = share = 0.0
            for j in range(n):
                predicted = weights[j] * _sum(template, kernels[j], x, first + y, reach)
                everything += predicted
                if (dq[j, y, x] & _NOT_GOOD) == 0:
                    some += predicted
                    share += weights[j]
            correction = everything - some / share
            if np.isfinite(correction):
                out[y, x] += correction

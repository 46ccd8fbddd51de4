"""Backgrounds of stacks matched where they overlap, so that no step remains at their edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.mosaic.mosaic_input import BLOCK, MosaicInput
from imaging.mosaic.parameters import MosaicParameters
from imaging.mosaic.sky_grid import Placed, SkyGrid
from imaging.mosaic.solve import connected
from imaging.pixels.dq import UNUSABLE
from imaging.usual import MAD_TO_SIGMA

#: Side of the blocks of the grid whose means are compared, px.
_SIDE: Final = 32
#: Fewest empty pixels of a block, as a share.
_LEAST: Final = 0.15
#: Pixels beyond this many sigmas are no empty sky.
_CLIP: Final = 5.0
#: Clipping of the blocks' differences, and number of iterations.
_BLOCK_CLIP, _ROUNDS = 4.0, 6
#: Blocks that two stacks must share for a constant, and for each term of a plane.
_FEWEST: Final = 3
#: Smallest error of the mean of a block: the sky is not flat to better than this share of a pixel's noise.
_FLOOR: Final = 0.01


@dataclass(frozen=True)
class Levels:
    """What is subtracted from each stack, in the units of the mosaic.

    Attributes
    ----------
    terms
        float64 (n, 1 or 3): constant, and slopes along x and y from the middle to an edge of the grid.
    error
        float64 (n,): standard error of the constant, electrons.
    matched
        Which stacks share enough empty sky with others.
    middle, half
        Pixel from which the slopes count, and half the larger side of the grid.
    """

    terms: NDArray[np.float64]
    error: NDArray[np.float64]
    matched: NDArray[np.bool_]
    middle: tuple[float, float]
    half: float

    def subtract(self, k: int, sci: NDArray[np.float32], rows: slice, columns: slice) -> None:
        """Subtract the level of stack ``k`` from rows and columns of the grid."""
        c = self.terms[k]
        if not c.any():
            return
        level = np.float32(c[0])
        if len(c) > 1:
            x = (np.arange(columns.start, columns.stop) - self.middle[0]) / self.half
            y = (np.arange(rows.start, rows.stop) - self.middle[1]) / self.half
            sci -= (c[0] + c[1] * x[None, :] + c[2] * y[:, None]).astype(np.float32)
        else:
            sci -= level


def match_levels(
    stacks: Sequence[MosaicInput],
    placed: Sequence[Placed],
    factors: Sequence[float],
    grid: SkyGrid,
    parameters: MosaicParameters,
) -> Levels:
    """Fit the level of each stack to the differences of all stacks that overlap.

    Parameters
    ----------
    stacks, placed, factors
        The stacks, where they are, and the factor of a pixel of the grid.
    grid
        The grid.
    parameters
        ``level``: a constant or a plane for each stack, or none.

    Returns
    -------
    Levels
        Their mean over the stacks, weighted by the inverse variance of the background and the area, is 0: matching does
        not change the level of the mosaic.
    """
    n = len(stacks)
    terms = 3 if parameters.level == "plane" else 1
    ny, nx = grid.shape
    middle, half = ((nx - 1) / 2, (ny - 1) / 2), max(nx, ny) / 2
    none = Levels(np.zeros((n, terms)), np.zeros(n), np.zeros(n, bool), middle, half)
    if parameters.level == "none":
        return none
    objects = object_map(stacks, placed, grid)
    means, errors = zip(
        *(_block_means(s, p, f, objects, grid) for s, p, f in zip(stacks, placed, factors, strict=True)),
        strict=True,
    )
    mean, error = np.array(means), np.array(errors)
    shared = np.isfinite(mean).sum(axis=0) > 1
    by, bx = np.nonzero(np.ones(mean.shape[1:], bool))
    x = ((bx + 0.5) * _SIDE - 0.5 - middle[0]) / half
    y = ((by + 0.5) * _SIDE - 0.5 - middle[1]) / half
    basis = np.column_stack([np.ones(len(x)), x, y][:terms])[shared.ravel()]
    mean, error = mean[:, shared], error[:, shared]
    links = []
    for i in range(n):
        for j in range(i):
            both = int((np.isfinite(mean[i]) & np.isfinite(mean[j])).sum())
            if both >= _FEWEST * terms:
                links.append((j, i))
            else:  # too little to measure anything by
                continue
    linked = np.zeros(n, bool)
    linked[[k for link in links for k in link]] = True
    if not links:
        return none
    mean[~linked] = np.nan
    solution, variance = _fit(mean, error, basis)
    group = connected(n, links, ())
    weight = np.array([_weight(s, f) for s, f in zip(stacks, factors, strict=True)])
    for number in np.unique(group[linked]):
        members = np.flatnonzero((group == number) & linked)
        solution[members] -= np.average(solution[members], axis=0, weights=weight[members])
    solution[~linked] = 0.0
    return Levels(solution, np.sqrt(variance), linked, middle, half)


def _weight(stack: MosaicInput, factor: float) -> float:
    return stack.shape[0] * stack.shape[1] / (factor**2 * stack.blocks.typical)


def object_map(stacks: Sequence[MosaicInput], placed: Sequence[Placed], grid: SkyGrid) -> NDArray[np.bool_]:
    """Return the pixels of the grid, with a margin of one, that are on a source of any stack."""
    busy = np.zeros(grid.shape, bool)
    for stack, where in zip(stacks, placed, strict=True):
        for rows in _bands(where.box[0]):
            x, y = np.meshgrid(
                np.arange(where.box[1].start, where.box[1].stop), np.arange(rows.start, rows.stop)
            )
            i, j = (np.rint(one).astype(np.intp) for one in where.back(x, y))
            inside = (i >= 0) & (j >= 0) & (i < stack.shape[1]) & (j < stack.shape[0])
            found = np.zeros(x.shape, bool)
            found[inside] = stack.objects[j[inside], i[inside]] != 0
            busy[rows, where.box[1]] |= found
    wide = busy.copy()
    wide[1:] |= busy[:-1]
    wide[:-1] |= busy[1:]
    wide[:, 1:] |= busy[:, :-1]
    wide[:, :-1] |= busy[:, 1:]
    return wide


def _bands(rows: slice, height: int = 256) -> list[slice]:
    return [slice(y, min(y + height, rows.stop)) for y in range(rows.start, rows.stop, height)]


def _block_means(
    stack: MosaicInput, where: Placed, factor: float, objects: NDArray[np.bool_], grid: SkyGrid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean empty sky of a stack in blocks of the grid, and its error; NaN with too few pixels.

    The nearest pixel of the stack stands for each of the grid: no interpolation is needed for a mean.
    """
    ny, nx = grid.shape
    shape = -(-ny // _SIDE), -(-nx // _SIDE)
    sci, var, dq = stack.rows(slice(0, stack.shape[0]))
    noise = np.sqrt(stack.blocks.variance)
    level = float(np.median(sci[::BLOCK, ::BLOCK][(dq[::BLOCK, ::BLOCK] & np.uint16(UNUSABLE)) == 0]))
    usable = ((dq & np.uint16(UNUSABLE)) == 0) & np.isfinite(sci) & (var > 0)
    total, squares, count = (np.zeros(shape[0] * shape[1]) for _ in range(3))
    for rows in _bands(where.box[0]):
        x, y = np.meshgrid(np.arange(where.box[1].start, where.box[1].stop), np.arange(rows.start, rows.stop))
        i, j = (np.rint(one).astype(np.intp) for one in where.back(x, y))
        inside = (i >= 0) & (j >= 0) & (i < stack.shape[1]) & (j < stack.shape[0])
        inside &= ~objects[rows, where.box[1]]
        x, y, i, j = x[inside], y[inside], i[inside], j[inside]
        value, sigma = sci[j, i].astype(np.float64), noise[j // BLOCK, i // BLOCK]
        good = usable[j, i] & (np.abs(value - level) < _CLIP * sigma)
        block = (y[good] // _SIDE) * shape[1] + x[good] // _SIDE
        total += np.bincount(block, value[good], len(total))
        squares += np.bincount(block, sigma[good].astype(np.float64) ** 2, len(total))
        count += np.bincount(block, minlength=len(total))
    known = count >= _LEAST * _SIDE**2
    n = np.maximum(count, 1)
    area = where.area
    mean = np.where(known, total / n, np.nan) * factor * area
    sigma = np.sqrt(squares / n)
    error = np.hypot(stack.noise_correlation * sigma / np.sqrt(n), _FLOOR * sigma) * factor * area
    error[~known] = np.inf
    return mean.reshape(shape), error.reshape(shape)


def _fit(
    mean: NDArray[np.float64], error: NDArray[np.float64], basis: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the terms of each stack (n, terms), and the variance of its constant.

    The level of a block that all its stacks share is eliminated; outliers are clipped: blocks with the light of a
    source that a stack did not show.
    """
    n, terms = len(mean), basis.shape[1]
    used = np.isfinite(mean)
    solution = np.zeros((n, terms))
    for _ in range(_ROUNDS):
        used &= used.sum(axis=0) > 1
        w = np.where(used, 1 / error**2, 0.0)
        total = w.sum(axis=0)
        normal, right = np.zeros((n * terms, n * terms)), np.zeros(n * terms)
        value = np.where(used, mean, 0.0)
        common = np.divide((w * value).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
        for i in range(n):
            right[i * terms : (i + 1) * terms] = (w[i] * (value[i] - common)) @ basis
            for j in range(n):
                share = np.divide(w[i] * w[j], total, out=np.zeros_like(total), where=total > 0)
                block = (w[i] if i == j else 0.0) - share
                normal[i * terms : (i + 1) * terms, j * terms : (j + 1) * terms] = basis.T @ (
                    basis * block[:, None]
                )
        inverse = np.linalg.pinv(normal, rcond=1e-10, hermitian=True)
        solution = (inverse @ right).reshape(n, terms)
        rest = value - solution @ basis.T
        common = np.divide((w * rest).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
        residual = np.where(used, (rest - common) / error, 0.0)
        spread = max(1.0, MAD_TO_SIGMA * float(np.median(np.abs(residual[used])))) if used.any() else 1.0
        now = used & (np.abs(residual) < _BLOCK_CLIP * spread)
        if np.array_equal(now, used):
            break
        used = now
    return solution, np.diag(inverse).reshape(n, terms)[:, 0] * spread**2

"""Comparison of two products of the same pixels: cut-outs, scatter, bins, stars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sep
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage, spatial, stats

from imaging.registration.resampling.interpolants import TAPS, weights
from imaging.usual import MAD_TO_SIGMA

F8 = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Side of the bins in which background noise is measured, and of the boxes whose mean is subtracted first,
#: px.
BIN, BOX = 8, 65
#: A bin counts if it has this share of its pixels.
_LEAST_SHARE = 0.75
#: Margin around sources in the background, px.
_MARGIN = 6


@dataclass(frozen=True)
class Product:
    """A product, or the part of one that a peer's cut-out covers. Planes are (ny, nx)."""

    sci: F8
    var: F8
    dq: NDArray[np.uint16]
    header: fits.Header
    primary: fits.Header
    origin: tuple[int, int] = (0, 0)
    objects: Mask | None = None
    tables: tuple[str, ...] = ()

    def cut(self, x: int, y: int, shape: tuple[int, int]) -> Product:
        """Return the part whose first pixel is (x, y), counted from 0."""
        part = (slice(y, y + shape[0]), slice(x, x + shape[1]))
        objects = None if self.objects is None else self.objects[part]
        return Product(
            self.sci[part], self.var[part], self.dq[part], self.header, self.primary, (x, y), objects, self.tables
        )  # fmt: skip


def read(path: Path) -> Product:
    """Read a product of either pipeline, compressed or not."""
    with fits.open(path, memmap=False) as hdus:
        names = tuple(hdu.name for hdu in hdus)
        sci = np.asarray(hdus["SCI"].data, np.float64)
        var = np.asarray(hdus["VAR"].data, np.float64) if "VAR" in hdus else np.zeros_like(sci)
        dq = np.asarray(hdus["DQ"].data, np.uint16) if "DQ" in hdus else np.zeros(sci.shape, np.uint16)
        objects = hdus["OBJMASK"].data != 0 if "OBJMASK" in hdus else None
        return Product(
            sci, var, dq, hdus["SCI"].header.copy(), hdus[0].header.copy(), objects=objects, tables=names
        )  # fmt: skip


def same_pixels(ours: Product, peer: Product) -> Product:
    """Return the part of a calibration that the peer's cut-out covers, by its LTVi cards."""
    x, y = (round(-float(peer.header.get(f"LTV{i}", 0.0))) for i in (1, 2))
    return ours.cut(x, y, peer.sci.shape)


def cut_by_wcs(ours: Product, peer: Product) -> tuple[Product, float]:
    """Return the part of a stack that the peer's cut-out covers, and how far the two grids are apart, px."""
    ny, nx = peer.sci.shape
    middle = ((nx - 1) / 2, (ny - 1) / 2)
    sky = WCS(peer.header).wcs_pix2world([middle], 0)
    x, y = WCS(ours.header).wcs_world2pix(sky, 0)[0] - np.array(middle)
    return ours.cut(round(x), round(y), (ny, nx)), float(np.hypot(x - round(x), y - round(y)))


def spread(values: F8) -> float:
    """Return the robust standard deviation: the median absolute deviation scaled to a normal law's sigma."""
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))


def pull(frames: F8, variance: F8, good: Mask) -> tuple[float, float]:
    """Return how a stack's VAR compares with the scatter between its n frames.

    Parameters
    ----------
    frames
        Values, (n, ny, nx), on one level.
    variance
        VAR of their mean, (ny, nx).
    good
        Pixels to use.

    Returns
    -------
    typical, between : float
        Scatter relative to VAR (ideally 1), from the median of the sample variances over VAR (which follow a
        chi-squared law); and its standard deviation over eight groups of similar VAR (ideally 0).
    """
    n = len(frames)
    ratio = frames.var(axis=0, ddof=1)[good] / (n * variance[good])
    law = float(stats.chi2.median(n - 1)) / (n - 1)
    order = np.array_split(np.argsort(variance[good], kind="stable"), 8)
    groups = [float(np.sqrt(np.median(ratio[part]) / law)) for part in order]
    return float(np.sqrt(np.median(ratio) / law)), float(np.std(groups))


def background(product: Product, usable: Mask, objects: Mask) -> tuple[F8, Mask]:
    """Return a stack without its sources (and a margin) and without variations over 65 px, and the pixels
    used.
    """
    free = usable & ~ndimage.binary_dilation(objects, iterations=_MARGIN)
    level = ndimage.uniform_filter(np.where(free, product.sci, 0.0), BOX)
    level /= np.maximum(ndimage.uniform_filter(free.astype(np.float64), BOX), 1e-6)
    return product.sci - level, free


def binned_noise(values: F8, free: Mask) -> float:
    """Return the noise of 8 x 8 bins times 8: the noise of a pixel if pixels were independent."""
    ny, nx = (n // BIN for n in values.shape)
    part = (slice(0, ny * BIN), slice(0, nx * BIN))
    blocks = (ny, BIN, nx, BIN)
    count = free[part].reshape(blocks).sum(axis=(1, 3))
    total = np.where(free, values, 0.0)[part].reshape(blocks).sum(axis=(1, 3))
    enough = count >= _LEAST_SHARE * BIN * BIN
    return spread(total[enough] / np.sqrt(count[enough]))


@dataclass(frozen=True)
class Stars:
    """The same stars in two stacks; arrays with one element per star."""

    dx: F8
    dy: F8
    ratio: F8
    fwhm: F8
    fwhm_peer: F8
    peak: F8

    def __len__(self) -> int:
        return len(self.dx)


def stars(
    ours: Product, peer: Product, catalogue: fits.FITS_rec, *, least_snr: float = 30.0, radius: float = 6.0
) -> Stars:
    """Measure isolated bright stars of our catalogue in both stacks, in the same way.

    Parameters
    ----------
    ours, peer
        Stacks on one grid.
    catalogue
        OBJCAT of our full stack.
    least_snr
        Minimum signal to noise of a star.
    radius
        Radius of the aperture, px; twice of it must be free of other sources.
    """
    x, y = catalogue["x"] - ours.origin[0], catalogue["y"] - ours.origin[1]
    ny, nx = ours.sci.shape
    edge = 4 * radius
    inside = (x > edge) & (y > edge) & (x < nx - edge) & (y < ny - edge)
    near, _ = spatial.cKDTree(np.column_stack([x, y])).query(np.column_stack([x, y]), k=2)
    wanted = (
        inside & (near[:, 1] > 2 * radius) & (catalogue["problems"] == 0) & (catalogue["snr"] > least_snr)
    )
    x, y = x[wanted].astype(float), y[wanted].astype(float)
    measured = []
    for one in (ours, peer):
        image = np.ascontiguousarray(one.sci)
        wx, wy, _ = sep.winpos(image, x, y, np.full(len(x), 2.0))
        flux, _, _ = sep.sum_circle(image, wx, wy, radius, bkgann=(2.5 * radius, 4 * radius), subpix=0)
        half, _ = sep.flux_radius(image, wx, wy, np.full(len(x), radius), 0.5, normflux=flux, subpix=5)
        measured.append((wx, wy, flux, 2 * half))
    (ax, ay, af, aw), (bx, by, bf, bw) = measured
    peak = np.array([ours.sci[round(j), round(i)] for i, j in zip(x, y, strict=True)])
    return Stars(ax - bx, ay - by, af / bf, aw, bw, peak)


def polynomial_weights(fraction: float) -> F8:
    """Return the weights of the cubic polynomial through four pixels, DRAGONS' ``poly3``, at -1, 0, 1 and 2
    (Lagrange).
    """
    f = fraction
    outer = -f * (f - 1) * (f - 2) / 6, (f + 1) * f * (f - 1) / 6
    inner = (f + 1) * (f - 1) * (f - 2) / 2, -(f + 1) * f * (f - 2) / 2
    return np.array([outer[0], *inner, outer[1]])


def interpolant_difference(
    shifts: Sequence[tuple[float, float]], interpolant: str, registration: float
) -> tuple[float, float]:
    """Return the difference that two interpolants, and two registrations, cause for the same white noise.

    Parameters
    ----------
    shifts
        (dx, dy) of each frame, px; an integer shift is not interpolated.
    interpolant
        Ours, by name.
    registration
        Difference of the two registrations along each axis, px rms.

    Returns
    -------
    interpolation, moved : float
        Sums over frames of the squared differences of the weights, in units of a frame's variance: poly3 instead
        of ours at the same shift; and poly3 moved by ``registration`` along both axes.
    """
    kernels, moved = 0.0, 0.0
    half = TAPS[interpolant] // 2
    for dx, dy in shifts:
        if dx % 1 == 0 and dy % 1 == 0:
            continue
        wide = max(half, 2) + 1
        fine = [_placed(weights(interpolant, -v % 1), half, wide) for v in (dx, dy)]  # type: ignore[arg-type]
        rough = [_placed(polynomial_weights(-v % 1), 2, wide) for v in (dx, dy)]
        kernels += float(((np.outer(*fine) - np.outer(*rough)) ** 2).sum())
        other = [_placed(polynomial_weights(-v % 1 + registration), 2, wide) for v in (dx, dy)]
        moved += float(((np.outer(*other) - np.outer(*rough)) ** 2).sum())
    return kernels, moved


def _placed(values: F8, half: int, wide: int) -> F8:
    """Return the weights of ``half`` pixels on either side, centred in an array of ``wide`` pixels on either
    side.
    """
    out = np.zeros(2 * wide)
    out[wide - half : wide + half] = values
    return out

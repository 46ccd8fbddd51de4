"""Simulated fields with a reference catalogue: the stars of an image, a header that is wrong, and the true sky."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from imaging.astrometry.plane_fit import SIMILARITY, Frame, fit_plane
from imaging.astrometry.tangent_plane import project
from imaging.astrometry.world_coordinates import CatalogueStars, WorldCoordinates
from imaging.header import Header
from imaging.sources.detect import CATALOGUE

SHAPE = (2048, 2048)
SCALE = 0.18


@dataclass(frozen=True)
class Field:
    """A field: sources of the image, catalogue, world coordinates of the header, true ones, and the true pairs."""

    sources: NDArray[Any]
    catalogue: CatalogueStars
    header: Header
    true: WCS
    pairs: slice

    def least_error(self, order: int = SIMILARITY, shape: tuple[int, int] = SHAPE) -> float:
        """Return the error, mas, of a least-squares fit to the true pairs alone: what the same stars allow."""
        centre, pixels = tuple(self.true.wcs.crval), np.column_stack([self.sources["x"], self.sources["y"]])
        places = project(self.catalogue.ra[self.pairs], self.catalogue.dec[self.pairs], centre)
        n = len(places)
        frame = Frame(shape, self.true.wcs.cd * 3600)
        fit = fit_plane(frame, pixels[self.pairs], places, np.ones(n), order, among=np.ones(n, bool))
        assert fit is not None
        at = np.column_stack(
            [a.ravel() for a in np.meshgrid(*(np.linspace(0, n - 1, 9) for n in shape[::-1]))]
        )
        there = project(*self.true.all_pix2world(*at.T, 0), centre)
        return float(np.sqrt(((fit(at) - there) ** 2).mean())) * 1000

    def error(self, found: WorldCoordinates, shape: tuple[int, int] = SHAPE) -> float:
        """Return the rms error of fitted world coordinates along one axis over the image, mas."""
        x, y = np.meshgrid(*(np.linspace(0, n - 1, 9) for n in shape[::-1]))
        ra, dec = WCS(dict(found.header)).all_pix2world(x.ravel(), y.ravel(), 0)
        ra0, dec0 = self.true.all_pix2world(x.ravel(), y.ravel(), 0)
        off = np.column_stack([(ra - ra0 + 180.0) % 360.0 - 180.0, dec - dec0])
        off[:, 0] *= np.cos(np.radians(dec0))
        return float(np.sqrt((off**2).mean())) * 3.6e6


def cards(
    centre: tuple[float, float], rotation: float = 0.0, scale: float = SCALE, shape: tuple[int, int] = SHAPE
) -> dict[str, Any]:
    """Return the cards of a TAN projection about the middle of an image, north up and east left if not turned."""
    c, s = np.cos(np.radians(rotation)) * scale / 3600, np.sin(np.radians(rotation)) * scale / 3600
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": (shape[1] + 1) / 2, "CRPIX2": (shape[0] + 1) / 2,
        "CRVAL1": centre[0], "CRVAL2": centre[1], "CD1_1": -c, "CD1_2": s, "CD2_1": s, "CD2_2": c,
        "RADESYS": "ICRS",
    }  # fmt: skip


def make_field(
    rng: np.random.Generator,
    n: int = 100,
    *,
    error: float = 50.0,
    centroid: float = 0.03,
    centre: tuple[float, float] = (83.82, -5.39),
    pointing: tuple[float, float] = (0.0, 0.0),
    rotation: float = 0.0,
    scale_error: float = 0.0,
    missing: float = 0.0,
    false: float = 0.0,
    outliers: float = 0.0,
    radial: float = 0.0,
    cluster: float = 0.0,
    margin: float = 70.0,
    shape: tuple[int, int] = SHAPE,
) -> Field:
    """Return a field with ``n`` stars that are in both the image and the catalogue.

    Parameters
    ----------
    error
        Errors of the catalogue's positions along each axis, mas.
    centroid
        Those of the image's positions, px.
    pointing, rotation, scale_error
        How the header is wrong: arcsec East and North, deg, fraction.
    missing
        Stars missing in the image, and as many others in the catalogue, as a fraction of all in each.
    false
        Sources that are no stars, as a fraction of those of the image.
    outliers
        Fraction of the common stars whose position in the catalogue is off by 0.2 to 0.9 arcsec.
    radial
        Displacement at the middle of an edge by distortion growing with the cube of the radius, px.
    cluster
        Scale of a central concentration of the stars, px; 0: spread evenly.
    margin
        The catalogue extends beyond the image by as much, arcsec.
    """
    ny, nx = shape
    truth = cards(centre, rotation, SCALE * (1 + scale_error), shape)
    if radial:
        k = radial / (nx / 2) ** 3
        truth |= {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 3, "B_ORDER": 3}
        truth |= {"A_3_0": k, "A_1_2": k, "B_0_3": k, "B_2_1": k}
    true = WCS(truth)
    east = pointing[0] / 3600 / np.cos(np.radians(centre[1]))
    header = Header(cards((centre[0] + east, centre[1] + pointing[1] / 3600), shape=shape))

    def places(count: int, extra: float = 0.0) -> NDArray[np.float64]:
        if cluster:
            radius = cluster * rng.exponential(1.0, count)
            angle = rng.uniform(0, 2 * np.pi, count)
            return np.column_stack([nx / 2 + radius * np.cos(angle), ny / 2 + radius * np.sin(angle)])
        return rng.uniform([-extra, -extra], [nx + extra, ny + extra], (count, 2))

    share = missing / (1 - missing)
    common = places(n)
    beyond = margin / SCALE
    larger = (nx + 2 * beyond) * (ny + 2 * beyond) / (nx * ny) - 1.0
    only = places(round(n * share))
    around = rng.uniform(
        [-beyond, -beyond], [nx + beyond, ny + beyond], (round(n * (1 + share) * (1 + larger)), 2)
    )
    around = around[((around < 0) | (around > [nx, ny])).any(axis=1)]
    catalogued = np.vstack([common, places(round(n * share)), around])
    ra, dec = true.all_pix2world(*catalogued.T, 0)
    wrong = np.zeros(len(ra))
    wrong[: round(outliers * n)] = rng.uniform(0.2, 0.9, round(outliers * n))
    angle = rng.uniform(0, 2 * np.pi, len(ra))
    off = rng.normal(0, error / 1000, (len(ra), 2)) + (wrong * np.array([np.cos(angle), np.sin(angle)])).T
    ra, dec = ra + off[:, 0] / 3600 / np.cos(np.radians(dec)), dec + off[:, 1] / 3600
    magnitude = rng.uniform(12, 17, len(ra))
    seen = np.vstack([common, only])
    seen = np.vstack([seen, places(round(len(seen) * false / (1 - false)))])
    sources = np.zeros(len(seen), CATALOGUE)
    sources["x"], sources["y"] = (seen + rng.normal(0, centroid, seen.shape)).T
    sources["error"], sources["snr"] = centroid, 100.0
    bright = rng.uniform(12, 17, len(seen))
    bright[:n] = magnitude[:n] + rng.normal(0, 0.3, n)
    sources["flux"] = 10 ** (-0.4 * (bright - 25))
    errors = np.full(len(ra), error)
    return Field(
        sources,
        CatalogueStars("simulated", ra, dec, errors, magnitude),
        header,
        true,
        slice(round(outliers * n), n),
    )

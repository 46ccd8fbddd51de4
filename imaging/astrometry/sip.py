"""Simple Imaging Polynomials: the coefficients of a fit as FITS cards, and those of the inverse.

The convention is that of Shupe et al. (2005, ASP Conf. Ser. 347, 491): xi and eta are the matrix CD times
(u + f(u, v), v + g(u, v)), where u and v are pixels from CRPIX and f and g have terms of order 2 and higher.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.plane_fit import terms

#: Largest error of the inverse polynomials over the image, px.
INVERSE_ERROR: Final = 0.005
#: Largest order of the inverse polynomials.
_HIGHEST: Final = 7
#: Positions along each axis at which the inverse is fitted, and their margin around the image in its sides.
_GRID: Final = 25
_MARGIN: Final = 0.02

Cards = dict[str, float | int]


def forward(polynomials: NDArray[np.float64], order: int) -> tuple[NDArray[np.float64], Cards]:
    """Return the matrix CD (arcsec per px) and the cards A_i_j and B_i_j of a fit.

    Parameters
    ----------
    polynomials
        float64 (2, terms): coefficients of xi and eta, arcsec, without constant, for powers of pixels from CRPIX.
    order
        Their order, 2 or more.
    """
    matrix = polynomials[:, 1:3]
    inner = np.linalg.solve(matrix, polynomials)
    cards: Cards = {"A_ORDER": order, "B_ORDER": order}
    for axis, name in enumerate("AB"):
        cards |= {
            f"{name}_{i}_{j}": float(inner[axis, k]) for k, (i, j) in enumerate(terms(order)) if i + j > 1
        }
    return matrix, cards


def inverse(forward_cards: Cards, shape: tuple[int, int], crpix: tuple[float, float]) -> tuple[Cards, float]:
    """Return the cards AP_i_j and BP_i_j of the inverse, and its largest error over the image, px.

    Parameters
    ----------
    forward_cards
        A_i_j and B_i_j.
    shape
        (ny, nx) of the image.
    crpix
        CRPIX1 and CRPIX2.
    """
    ny, nx = shape
    steps = np.linspace(-_MARGIN, 1 + _MARGIN, _GRID)
    u, v = (one.ravel() for one in np.meshgrid(steps * nx + 0.5 - crpix[0], steps * ny + 0.5 - crpix[1]))
    order = int(forward_cards["A_ORDER"])
    f, g = (
        sum(
            (float(forward_cards[f"{name}_{i}_{j}"]) * u**i * v**j for i, j in terms(order) if i + j > 1),
            start=0 * u,
        )
        for name in "AB"
    )
    there, back = (u + f, v + g), np.column_stack([-f, -g])
    half = max(shape) / 2
    for higher in range(order, _HIGHEST + 1):
        powers = np.column_stack([(there[0] / half) ** i * (there[1] / half) ** j for i, j in terms(higher)])
        scaled, *_ = np.linalg.lstsq(powers, back, rcond=None)
        error = float(np.hypot(*(powers @ scaled - back).T).max())
        if error <= INVERSE_ERROR:
            break
    coefficients = scaled.T / np.array([half ** (i + j) for i, j in terms(higher)])
    cards: Cards = {"AP_ORDER": higher, "BP_ORDER": higher}
    for axis, name in enumerate(("AP", "BP")):
        cards |= {f"{name}_{i}_{j}": float(coefficients[axis, k]) for k, (i, j) in enumerate(terms(higher))}
    return cards, error

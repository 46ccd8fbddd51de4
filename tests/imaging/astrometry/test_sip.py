"""Distortion polynomials as cards: wcslib reads them as the fit, and there and back is the same pixel."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import WCS
from catalogue_fields import cards

from imaging.astrometry.plane_fit import terms
from imaging.astrometry.sip import INVERSE_ERROR, forward, inverse
from imaging.astrometry.tangent_plane import project

SHAPE = (1500, 2048)
CRPIX = ((SHAPE[1] + 1) / 2, (SHAPE[0] + 1) / 2)


@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("pixels", [0.5, 4.0, 15.0])
def test_wcslib_reads_the_fit_and_its_inverse(order: int, pixels: float) -> None:
    rng = np.random.default_rng(order)
    half = max(SHAPE) / 2
    polynomials = np.column_stack([
        [0.0, 0.0], [[-0.18, 0.01], [0.012, 0.179]],
        *(rng.uniform(-1, 1, 2) * 0.18 * pixels / len(terms(order)) / half ** (i + j)
          for i, j in terms(order) if i + j > 1),
    ])  # fmt: skip
    matrix, distortion = forward(polynomials, order)
    back, error = inverse(distortion, SHAPE, CRPIX)
    header = cards((150.0, 2.0), shape=SHAPE) | distortion | back
    header |= {f"CD{i}_{j}": matrix[i - 1, j - 1] / 3600 for i in (1, 2) for j in (1, 2)}
    wcs = WCS(header | {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"})
    x, y = rng.uniform(0, [SHAPE[1] - 1, SHAPE[0] - 1], (200, 2)).T
    u, v = x + 1 - CRPIX[0], y + 1 - CRPIX[1]
    expected = np.column_stack([u**i * v**j for i, j in terms(order)]) @ polynomials.T
    assert project(*wcs.all_pix2world(x, y, 0), (150.0, 2.0)) == pytest.approx(expected, abs=1e-6)
    there = np.linalg.solve(matrix, expected.T)
    for name, pixel, place in (("AP", u, there[0]), ("BP", v, there[1])):
        powers = terms(int(back[f"{name}_ORDER"]))
        undone = place + sum(back[f"{name}_{i}_{j}"] * there[0] ** i * there[1] ** j for i, j in powers)
        assert undone == pytest.approx(pixel, abs=INVERSE_ERROR)
    assert error <= INVERSE_ERROR

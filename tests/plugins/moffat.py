"""The light of a Moffat star inside a circle (Moffat 1969)."""

from __future__ import annotations

from imaging.simulator.star_field import moffat_alpha


def moffat_enclosed(radius: float, fwhm: float, beta: float) -> float:
    """Return the fraction of a Moffat star's light within ``radius``."""
    return float(1.0 - (1.0 + (radius / moffat_alpha(fwhm, beta)) ** 2) ** (1.0 - beta))

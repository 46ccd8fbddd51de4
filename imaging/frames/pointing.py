"""Where a frame points, from its facts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from imaging.frames.facts import FrameFacts

#: Right ascension and declination, degrees.
Position = tuple[float, float]


def pointing(facts: FrameFacts, centre: Position | None = None) -> Position | None:
    """Return where a frame points, degrees: ``centre`` if given, otherwise the target plus the telescope's offsets.

    P is East and Q is North at position angle 0; both rotate with it.
    """
    if centre is not None:
        return centre
    if facts.ra is None or facts.dec is None:
        return None
    angle = math.radians(facts.pa)
    east = facts.poffset * math.cos(angle) + facts.qoffset * math.sin(angle)
    north = facts.qoffset * math.cos(angle) - facts.poffset * math.sin(angle)
    dec = facts.dec + north / 3600
    return (facts.ra + east / 3600 / max(math.cos(math.radians(dec)), 1e-6)) % 360, dec


def separation(a: Position, b: Position) -> float:
    """Return the angle between two positions, arcsec (the haversine formula, exact for small angles)."""
    (ra1, dec1), (ra2, dec2) = (tuple(map(math.radians, p)) for p in (a, b))
    h = (
        math.sin((dec2 - dec1) / 2) ** 2
        + math.cos(dec1) * math.cos(dec2) * math.sin((ra2 - ra1) / 2) ** 2
    )  # fmt: skip
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(h)))) * 3600


def moved_by(facts: FrameFacts) -> tuple[float, float]:
    """Return how far the telescope's offsets move a star on the detector, from the instrument's table: x and y, px."""
    offsets, scale = facts.table.offsets, facts.readout.pixel_scale
    by = {"p": facts.poffset / scale, "q": facts.qoffset / scale}
    sx, sy = offsets.signs(facts.values)
    return sx * by[offsets.x[-1]], sy * by[offsets.y[-1]]


def mean_position(positions: Sequence[Position | None]) -> Position | None:
    """Return the mean of the positions that are known, or None."""
    known = [p for p in positions if p is not None]
    if not known:
        return None
    ra0 = known[0][0]
    turn = math.fsum((ra - ra0 + 180) % 360 - 180 for ra, _ in known) / len(known)
    return (ra0 + turn) % 360, math.fsum(dec for _, dec in known) / len(known)

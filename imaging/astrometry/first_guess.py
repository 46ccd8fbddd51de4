"""World coordinates without a header that has any: from the pointing, the scale of the camera, and the catalogue.

The position angle and the side from which the sky is seen are unknown. Pairs of stars of the image are compared with
pairs of the catalogue that are as far apart: each such coincidence is a rotation and a scale, and those of true pairs
agree. The most frequent ones are tried by the vote for the offset (`imaging.registration.star_matching`), and the best
is the start of the usual search, which refuses what could be due to chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.astrometry.match_catalogue import CELL, CatalogueMatchParameters
from imaging.astrometry.tangent_plane import ARCSEC, Point
from imaging.header import Header
from imaging.listed import counted
from imaging.registration import star_matching as matching
from imaging.registration.geometry import Affine
from imaging.registration.star_matching import Positions

#: Stars of the image and of the catalogue whose pairs are compared, brightest first.
_STARS, _CATALOGUED = 30, 60
#: Shortest pairs, in the radius of the image: the direction of others is not accurate.
_SHORTEST: Final = 0.25
#: Largest error of the camera's scale, as a fraction, and the bins of scale and of position angle.
SCALE_ERROR: Final = 0.02
_SCALES: Final = 10
_ANGLES: Final = 720
#: Rotations with scales that are tried by the vote, most frequent first.
_TRIED: Final = 24
#: Both sides, all angles and all scales: what could agree by chance.
TRIALS: Final = 2 * _ANGLES * _SCALES


@dataclass(frozen=True)
class Pointing:
    """Where a camera pointed.

    Attributes
    ----------
    centre
        Right ascension and declination of the middle of the image, deg.
    scale
        Side of a pixel, arcsec.
    """

    centre: Point
    scale: float


def guess_header(
    pixels: Positions,
    catalogue: Positions,
    pointing: Pointing,
    shape: tuple[int, int],
    parameters: CatalogueMatchParameters,
) -> Header | str:
    """Return world coordinates to start from, whatever the position angle, seen from either side.

    Parameters
    ----------
    pixels
        float64 (n, 2): the image's stars, px from 0, brightest first.
    catalogue
        float64 (m, 2): the catalogue's positions in the tangent plane about the pointing, arcsec, brightest first.
    pointing
        Direction, accurate to ``pointing_error``, and scale, accurate to `SCALE_ERROR`.
    shape
        (ny, nx) of the image.
    parameters
        Ranges and limits.

    Returns
    -------
    Header or str
        Celestial cards about the middle of the image, or what prevents them.
    """
    middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    plane = (pixels - middle) * pointing.scale
    radius = float(np.hypot(*(middle + 0.5)) * pointing.scale)
    near = catalogue[np.hypot(*catalogue.T) <= radius + parameters.pointing_error]
    least = parameters.min_matches
    if min(len(plane), len(near)) < least:
        return (
            f"the image has {counted(len(plane), 'star')} to match and the catalogue {len(near)} in the field, "
            f"{least} are needed of each"
        )
    guesses = []
    for side in (-1.0, 1.0):  # East is on the left of North, or on its right
        for count, turn, scale in _rotations(plane * (side, 1.0), near, radius):
            guesses.append((count, side, turn, scale))
    guesses.sort(key=lambda one: -one[0])
    best: tuple[int, NDArray[np.float64]] | None = None
    bright, known = plane[: parameters.bright_limit], near[: 4 * parameters.bright_limit]
    reach = parameters.pointing_error + 2 * parameters.tolerance
    for _, side, turn, scale in guesses[:_TRIED]:
        rotation = Affine.turn(np.degrees(turn), 0.0, 0.0)
        matrix = scale * np.array([[rotation.xx, rotation.xy], [rotation.yx, rotation.yy]]) * (side, 1.0)
        votes = matching.vote(bright @ matrix.T, known, reach, cell=CELL * parameters.tolerance)
        if best is None or votes.count > best[0]:
            best = votes.count, matrix
    if best is None:
        return "no pairs of stars of the image are as far apart as pairs of the catalogue"
    matrix = best[1] * pointing.scale / ARCSEC
    cards: list[tuple[str, str | float | int]] = [
        ("WCSAXES", 2),
        ("CTYPE1", "RA---TAN"),
        ("CTYPE2", "DEC--TAN"),
    ]
    cards += [("CRPIX1", float(middle[0]) + 1.0), ("CRPIX2", float(middle[1]) + 1.0)]
    cards += [("CRVAL1", pointing.centre[0]), ("CRVAL2", pointing.centre[1])]
    cards += [("CUNIT1", "deg"), ("CUNIT2", "deg")]
    cards += [(f"CD{i}_{j}", float(matrix[i - 1, j - 1])) for i in (1, 2) for j in (1, 2)]
    return Header([*cards, ("RADESYS", "ICRS")])


def _rotations(a: Positions, b: Positions, radius: float) -> list[tuple[int, float, float]]:
    """Return how often pairs agree on a rotation and a scale, with these: rad, and the catalogue's over the image's."""
    length_a, angle_a = _pairs(a[:_STARS], radius, both_ways=False)
    length_b, angle_b = _pairs(b[:_CATALOGUED], radius, both_ways=True)
    order = np.argsort(length_b, kind="stable")
    length_b, angle_b = length_b[order], angle_b[order]
    first = np.searchsorted(length_b, length_a * (1 - SCALE_ERROR))
    last = np.searchsorted(length_b, length_a * (1 + SCALE_ERROR))
    i = np.repeat(np.arange(len(length_a)), last - first)
    if not len(i):
        return []
    j = np.concatenate([np.arange(low, high) for low, high in zip(first, last, strict=True)])
    turn = (angle_b[j] - angle_a[i]) % (2 * np.pi)
    ratio = length_b[j] / length_a[i]
    angle_bin = (turn * _ANGLES / (2 * np.pi)).astype(np.int64) % _ANGLES
    scale_bin = np.clip((ratio - 1 + SCALE_ERROR) * _SCALES / (2 * SCALE_ERROR), 0, _SCALES - 1).astype(
        np.int64
    )
    counts = np.zeros((_ANGLES, _SCALES + 1), np.int64)
    np.add.at(counts, (angle_bin, scale_bin), 1)
    # A peak may lie on the border of two bins in both: windows of two by two. Angles are a circle.
    windows = counts[:, :-1] + counts[:, 1:]
    windows = windows + np.roll(windows, -1, axis=0)
    found = []
    for flat in np.argsort(-windows, axis=None, kind="stable")[:_TRIED]:
        k, s = divmod(int(flat), _SCALES)
        inside = ((angle_bin - k) % _ANGLES <= 1) & (scale_bin >= s) & (scale_bin <= s + 1)
        if inside.any():
            start = 2 * np.pi * k / _ANGLES
            angle = start + float(np.median((turn[inside] - start) % (2 * np.pi)))
            found.append((int(windows[k, s]), angle, float(np.median(ratio[inside]))))
    return found


def _pairs(
    places: Positions, radius: float, *, both_ways: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lengths and directions, rad, of the pairs of places that are far enough apart, within the image."""
    i, j = np.triu_indices(len(places), 1)
    if both_ways:
        i, j = np.concatenate([i, j]), np.concatenate([j, i])
    x, y = (places[j] - places[i]).T
    length = np.hypot(x, y)
    kept = (length >= _SHORTEST * radius) & (length <= 2.1 * radius)
    return length[kept], np.arctan2(y, x)[kept]

"""North, East and a scale bar on a preview."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from imaging.header import Header
from imaging.pixels.wcs import celestial_wcs

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

#: Lengths of a scale bar, arcsec: the longest one that fits; and the largest part of the picture that it takes.
_BARS: Final = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_LONGEST_BAR: Final = 0.25
#: Smallest side of a picture that has room for arrows, pixels.
LEAST: Final = 200
#: Length of an arrow, of its head, the size of letters and the margin, as parts of the picture's smaller side.
_ARROW, _HEAD, _LETTER, _MARGIN = 0.10, 0.022, 0.042, 0.035
_ARCMIN: Final = 60


@dataclass(frozen=True)
class Compass:
    """Directions and scale of an image at its centre.

    Attributes
    ----------
    north, east
        Unit vectors (x, y) in pixels, y upwards.
    scale
        Arcsec per pixel.
    """

    north: tuple[float, float]
    east: tuple[float, float]
    scale: float


def compass_of(header: Header, shape: tuple[int, int]) -> Compass | None:
    """Return the directions on an image; None without a valid WCS.

    Parameters
    ----------
    header
        Header with its celestial WCS.
    shape
        (ny, nx).
    """
    wcs = celestial_wcs(header, shape)
    if wcs is None:
        return None
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    ra, dec = (np.array([x, x + 1, x]), np.array([y, y, y + 1]))
    ra, dec = wcs.all_pix2world(ra, dec, 0)
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        return None
    eastward = (((ra - ra[0] + 180) % 360) - 180) * math.cos(math.radians(float(dec[0])))
    northward = dec - dec[0]
    matrix = np.array([[eastward[1], eastward[2]], [northward[1], northward[2]]])  # deg per pixel
    area = abs(float(np.linalg.det(matrix)))
    if not area > 0:
        return None
    east, north = np.linalg.inv(matrix).T
    return Compass(_unit(north), _unit(east), 3600.0 * math.sqrt(area))


def scale_bar(width: float) -> tuple[float, str] | None:
    """Return the length of the scale bar of a picture, arcsec, and its label; None if none is short enough.

    Parameters
    ----------
    width
        Width of the picture, arcsec.
    """
    fitting = [length for length in _BARS if length <= _LONGEST_BAR * width]
    if not fitting:
        return None
    longest = fitting[-1]
    return longest, (f"{longest / _ARCMIN:g}'" if longest >= _ARCMIN else f'{longest:g}"')


def draw_compass(
    draw: ImageDraw, size: tuple[int, int], compass: Compass, block: int, ink: int, edge: int
) -> None:
    """Draw the arrows in the lower left corner of a picture, and the scale bar in the lower right one.

    Parameters
    ----------
    draw
        The picture, first row at the top.
    size
        Its width and height, pixels.
    compass
        The directions.
    block
        Pixels of the image in one pixel of the picture.
    ink, edge
        Colours of the lines and of their outlines.
    """
    from PIL import ImageFont

    width, height = size
    unit = min(size)
    font = ImageFont.load_default(max(10, round(_LETTER * unit)))
    line = max(1, round(unit / 300))
    reach = (_ARROW + _LETTER) * unit
    x0, y0 = (_MARGIN * unit + reach, height - _MARGIN * unit - reach)
    # The arrows end inside the corner, whichever way they point.
    ends = [(one[0] * _ARROW * unit, -one[1] * _ARROW * unit) for one in (compass.north, compass.east)]
    x0 -= reach + min(0.0, *(x for x, _ in ends)) * (1 + _LETTER / _ARROW)
    y0 += reach - max(0.0, *(y for _, y in ends)) * (1 + _LETTER / _ARROW)
    for colour, thick in ((edge, line + 2), (ink, line)):
        for (dx, dy), letter in zip(ends, "NE", strict=True):
            tip = (x0 + dx, y0 + dy)
            draw.line([(x0, y0), tip], fill=colour, width=thick)
            for side in (-1, 1):
                angle = math.atan2(dy, dx) + side * math.radians(150)
                barb = (tip[0] + _HEAD * unit * math.cos(angle), tip[1] + _HEAD * unit * math.sin(angle))
                draw.line([tip, barb], fill=colour, width=thick)
            at = (x0 + dx * (1 + 0.62 * _LETTER / _ARROW), y0 + dy * (1 + 0.62 * _LETTER / _ARROW))
            draw.text(at, letter, fill=ink, font=font, anchor="mm", stroke_width=1, stroke_fill=edge)
        bar = scale_bar(width * block * compass.scale)
        if bar is not None:
            length, label = bar
            x1, y1 = width - _MARGIN * unit, height - _MARGIN * unit
            x2 = x1 - length / (compass.scale * block)
            draw.line([(x2, y1), (x1, y1)], fill=colour, width=thick)
            for x in (x1, x2):
                draw.line([(x, y1 - 2 * line), (x, y1 + 2 * line)], fill=colour, width=thick)
            middle = ((x1 + x2) / 2, y1 - 3 * line)
            draw.text(middle, label, fill=ink, font=font, anchor="mb", stroke_width=1, stroke_fill=edge)


def _unit(vector: np.ndarray) -> tuple[float, float]:
    length = math.hypot(float(vector[0]), float(vector[1]))
    return float(vector[0]) / length, float(vector[1]) / length

"""Previews: a product as a small PNG that shows the result at a glance.

Pixels are averaged in blocks and shown between the limits of the zscale algorithm; rows run upwards, as
stored. Pixels without data are blue-grey. A stack has arrows to North and East, and a scale bar. In a bad pixel mask,
each block has the light of its share of bad pixels, in the colour of their reason, so that a mask of one bad pixel in a
thousand has a thousandth of the light of one without a good pixel. There is no text in the picture: what the greys and
colours mean is its caption (`imaging.products.captions`), recorded in the PNG for the pages that show it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.io.atomic import write_complete
from imaging.kinds import KINDS, is_mask
from imaging.pixels.dq import DQ
from imaging.pixels.image import Reason
from imaging.products.captions import CAPTION, Caption, Counted, ReasonName
from imaging.products.compass import LEAST, Compass, compass_of, draw_compass
from imaging.products.product_file import REASONS, ProductFile, read_table

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

#: Longest side of a preview, pixels.
LARGEST: Final = 700
#: Longest side of a thumbnail, pixels.
THUMBNAIL: Final = 200

#: Grey levels of the palette; the higher indices are the colours.
_GREYS = 246
_NO_DATA, _INK, _EDGE = _GREYS, _GREYS + 1, _GREYS + 2
_COLOURS: Final = ((64, 78, 110), (255, 225, 90), (0, 0, 0))
#: Name and colour of each reason; if a pixel has several, the first one listed here is shown.
_REASONS: tuple[tuple[int, ReasonName, tuple[int, int, int]], ...] = (
    (Reason.HOT, "hot", (255, 70, 60)),
    (Reason.COLD, "cold", (70, 160, 255)),
    (Reason.HIGH_RESPONSE, "high-response", (90, 220, 110)),
    (Reason.LOW_RESPONSE, "low-response", (255, 190, 50)),
    (0, "bad", (235, 235, 235)),
)
#: zscale: pixels sampled, contrast, clipping in sigma, iterations, and the fraction that must survive.
_SAMPLES, _CONTRAST, _CLIP, _ROUNDS, _FEWEST = 10_000, 0.25, 2.5, 5, 0.5


def preview_product(path: Path, product: ProductFile) -> Path:
    """Write a product's preview.

    Parameters
    ----------
    path
        The PNG; an existing one is replaced.
    product
        The open product.

    Raises
    ------
    NirflowError
        If the PNG cannot be written.
    """
    kind = product.facts.product_kind
    if is_mask(kind):
        bad = product.bad_pixels()
        return write_mask_preview(path, bad, _reason_plane(product, bad.shape))
    sci = product.rows("SCI")
    if "DQ" in product:
        nothing = np.uint16(DQ.NO_DATA | DQ.UNILLUMINATED)
        sci[(product.rows("DQ") & nothing) != 0] = np.nan
    # The calibrations' headers have the position that the telescope had, which means nothing for them.
    on_sky = kind in KINDS and KINDS[kind].is_stack
    compass = compass_of(product.header, (sci.shape[0], sci.shape[1])) if on_sky else None
    return write_preview(path, sci, unit=str(product.header.get("BUNIT", "")).strip(), compass=compass)


def write_preview(path: Path, array: NDArray[Any], *, unit: str = "", compass: Compass | None = None) -> Path:
    """Write an image as a PNG of at most 700 pixels per side.

    Parameters
    ----------
    path
        The PNG; an existing one is replaced.
    array
        Pixels, shape (ny, nx); values that are not finite have no data.
    unit
        Their unit, for the caption.
    compass
        Directions of the sky, which are drawn if the picture is large enough.
    """
    from PIL import Image, ImageDraw

    factor = _factor(array.shape, LARGEST)
    grey, limits = _grey(array, factor)
    picture = Image.fromarray(np.ascontiguousarray(grey[::-1]))
    if compass is not None and min(picture.size) >= LEAST:
        draw_compass(ImageDraw.Draw(picture), picture.size, compass, factor, _INK, _EDGE)
    caption = Caption(limits=limits, unit=unit[:80], shape=array.shape, block=factor)
    return _save(path, picture, {CAPTION: caption.model_dump_json()})


def write_thumbnail(path: Path, array: NDArray[Any], *, notes: Mapping[str, str] | None = None) -> Path:
    """Write an image as a PNG of at most 200 pixels per side.

    Parameters
    ----------
    path
        The PNG; an existing one is replaced.
    array
        Pixels, shape (ny, nx); values that are not finite have no data.
    notes
        Texts to store in the file, by keyword.
    """
    from PIL import Image

    grey, _ = _grey(array, _factor(array.shape, THUMBNAIL))
    return _save(path, Image.fromarray(np.ascontiguousarray(grey[::-1])), notes)


def write_mask_preview(path: Path, bad: NDArray[np.uint8], reasons: NDArray[np.uint8] | None = None) -> Path:
    """Write a bad pixel mask as a PNG: in each block, the light of its bad pixels, in the colours of their reasons.

    Shares are averaged in linear light (IEC 61966-2-1), as a screen far away averages them.

    Parameters
    ----------
    path
        The PNG; an existing one is replaced.
    bad
        Non-zero where a pixel is bad, shape (ny, nx).
    reasons
        Bits of `imaging.pixels.image.Reason`, same shape; default: all bad pixels have one colour.
    """
    from PIL import Image

    factor = _factor(bad.shape, LARGEST)
    ny, nx = (-(-n // factor) for n in bad.shape)
    light = np.zeros((ny, nx, 3), np.float32)
    counts: list[Counted] = []
    unexplained = bad != 0
    for bit, name, colour in _REASONS:
        here = unexplained if bit == 0 or reasons is None else unexplained & ((reasons & bit) != 0)
        if reasons is None and bit != 0:
            continue
        y, x = np.nonzero(here)
        unexplained = unexplained & ~here
        if len(y):
            counts.append(Counted(reason=name, pixels=len(y)))
            blocks = np.bincount(y // factor * nx + x // factor, minlength=ny * nx).reshape(ny, nx)
            shares = (blocks / factor**2).astype(np.float32)
            light += shares[..., None] * linear_light(np.array(colour, np.float32))
    picture = Image.fromarray(np.ascontiguousarray(_encoded(light)[::-1]))
    caption = Caption(counts=tuple(counts), shape=bad.shape, block=factor)
    return _save(path, picture, {CAPTION: caption.model_dump_json()})


def linear_light(colour: NDArray[Any]) -> NDArray[np.float32]:
    """Return the light of colours of 0 to 255, relative to white (sRGB, IEC 61966-2-1)."""
    value = np.asarray(colour, np.float32) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _encoded(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    value = np.clip(light, 0, 1)
    encoded = np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)


def block_mean(array: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Return the mean of the finite pixels of each ``factor`` x ``factor`` block; NaN for a block without any.

    Rows and columns that do not fill a block are left out.
    """
    ny, nx = (max(1, n // factor) for n in array.shape)
    total, count = np.zeros((ny, nx), np.float32), np.zeros((ny, nx), np.float32)
    for i in range(min(factor, array.shape[0])):
        for j in range(min(factor, array.shape[1])):
            pixels = array[i : ny * factor : factor, j : nx * factor : factor].astype(np.float32)
            finite = np.isfinite(pixels)
            total += np.where(finite, pixels, np.float32(0))
            count += finite
    return np.divide(total, count, out=np.full((ny, nx), np.nan, np.float32), where=count > 0)


def zscale(array: NDArray[Any]) -> tuple[float, float]:
    """Return limits that show the background and values a little above and below it.

    A straight line is fitted to the sorted pixels, outliers clipped; its slope over the contrast (0.25)
    spans the limits about the median. The algorithm is that of IRAF's display task.

    Returns
    -------
    tuple of float
        Lower and upper limit; never equal. (0, 1) if no pixel is finite.
    """
    finite = array[np.isfinite(array)].ravel()
    values = np.sort(finite[:: max(1, finite.size // _SAMPLES)].astype(np.float64))
    if values.size == 0:
        return 0.0, 1.0
    low, high = float(values[0]), float(values[-1])
    at = np.arange(values.size) - (values.size - 1) / 2
    keep = np.ones(values.size, bool)
    slope = 0.0
    for _ in range(_ROUNDS):
        if np.count_nonzero(keep) < max(5, _FEWEST * values.size):
            break
        slope, offset = np.polyfit(at[keep], values[keep], 1)
        rest = values - (slope * at + offset)
        kept = keep & (np.abs(rest) <= _CLIP * rest[keep].std())
        if np.array_equal(kept, keep):
            break
        keep = kept
    if np.count_nonzero(keep) >= max(5, _FEWEST * values.size):
        median, reach = float(np.median(values)), float(slope) / _CONTRAST * values.size / 2
        low, high = max(low, median - reach), min(high, median + reach)
    # A constant image: limits around its value that float32 can distinguish.
    return (low, high) if high > low else (low - 0.5, low + 0.5 + abs(low) * 1e-6)


def _factor(shape: tuple[int, ...], largest: int) -> int:
    """Return how many rows and columns become one, so that no side is longer than ``largest``."""
    return -(-max(shape) // largest)


def _grey(array: NDArray[Any], factor: int) -> tuple[NDArray[np.uint8], tuple[float, float] | None]:
    """Return palette indices and the limits; None without data."""
    small = block_mean(array, factor)
    low, high = zscale(small)
    level = (small - np.float32(low)) * np.float32((_GREYS - 1) / (high - low))
    finite = np.isfinite(small)
    picture = np.where(finite, np.clip(np.nan_to_num(level), 0, _GREYS - 1), _NO_DATA).astype(np.uint8)
    return picture, (low, high) if finite.any() else None


def _reason_plane(product: ProductFile, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    table = read_table(product.path, REASONS)
    if table is None:
        return None
    reasons = np.zeros(shape, np.uint8)
    reasons[table["y"], table["x"]] = table["reason"]
    return reasons


def _save(path: Path, picture: Picture, notes: Mapping[str, str] | None = None) -> Path:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for keyword, text in (notes or {}).items():
        texts.add_text(keyword, text)
    if picture.mode == "L":
        picture.putpalette(_palette())
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=3, pnginfo=texts)
    write_complete(path, [out.getvalue()], sync=False)
    return path


def _palette() -> bytes:
    greys = np.linspace(0, 255, _GREYS).round().astype(np.uint8)
    return bytes(np.repeat(greys, 3)) + bytes(value for colour in _COLOURS for value in colour)

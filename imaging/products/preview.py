"""Previews: a product as a small PNG that shows the result at a glance.

Pixels are averaged in blocks and shown between the limits of the zscale algorithm; rows run upwards, as
stored. Pixels without data are blue-grey. A bad pixel mask shows every bad pixel enlarged, in the colour of
its reason.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.io.atomic import write_complete
from imaging.kinds import is_mask
from imaging.pixels.dq import DQ
from imaging.pixels.image import Reason
from imaging.products.product_file import REASONS, ProductFile, read_table

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

#: Longest side of the image without its label, pixels.
LARGEST: Final = 700
#: Longest side of a thumbnail, pixels.
THUMBNAIL: Final = 200

_LABEL_HEIGHT = 22
#: Grey levels of the palette; the higher indices are the colours.
_GREYS = 248
_NO_DATA, _FIRST_COLOUR = _GREYS, _GREYS + 1
_NO_DATA_COLOUR = (64, 78, 110)
#: Colour and name of each reason; if a pixel has several, the first one listed here is shown.
_REASONS: tuple[tuple[int, tuple[int, int, int], str], ...] = (
    (Reason.HOT, (255, 70, 60), "hot"),
    (Reason.COLD, (70, 160, 255), "cold"),
    (Reason.HIGH_RESPONSE, (90, 220, 110), "high response"),
    (Reason.LOW_RESPONSE, (255, 190, 50), "low response"),
    (0, (235, 235, 235), "bad"),
)
#: zscale: pixels sampled, contrast, clipping in sigma, iterations, and the fraction that must survive.
_SAMPLES, _CONTRAST, _CLIP, _ROUNDS, _FEWEST = 10_000, 0.25, 2.5, 5, 0.5


@dataclass(frozen=True)
class _Legend:
    colour: int
    text: str


def preview_product(path: Path, product: ProductFile, *, title: str) -> Path:
    """Write a product's preview.

    Parameters
    ----------
    path
        The PNG; an existing one is replaced.
    product
        The open product.
    title
        Text of the label.

    Raises
    ------
    NirflowError
        If the PNG cannot be written.
    """
    if is_mask(product.facts.product_kind):
        bad = product.bad_pixels()
        return write_mask_preview(path, bad, _reason_plane(product, bad.shape), title=title)
    sci = product.rows("SCI")
    if "DQ" in product:
        nothing = np.uint16(DQ.NO_DATA | DQ.UNILLUMINATED)
        sci[(product.rows("DQ") & nothing) != 0] = np.nan
    return write_preview(path, sci, title=title, unit=str(product.header.get("BUNIT", "")).strip())


def write_preview(path: Path, array: NDArray[Any], *, title: str, unit: str = "") -> Path:
    """Write an image as a PNG of at most 700 pixels per side, with a label.

    Parameters
    ----------
    path
        The PNG; an existing one is replaced.
    array
        Pixels, shape (ny, nx); values that are not finite have no data.
    title, unit
        Text of the label, next to the limits of the grey scale.
    """
    picture, limits = _grey(array, LARGEST)
    limits_text = f"{limits[0]:.4g} to {limits[1]:.4g} {unit}".strip() if limits is not None else "no data"
    return _write(path, picture, title, [_Legend(-1, limits_text)])


def write_thumbnail(path: Path, array: NDArray[Any], *, notes: Mapping[str, str] | None = None) -> Path:
    """Write an image as a PNG of at most 200 pixels per side, without a label.

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

    picture, _ = _grey(array, THUMBNAIL)
    return _save(path, Image.fromarray(np.ascontiguousarray(picture[::-1])), notes)


def write_mask_preview(
    path: Path, bad: NDArray[np.uint8], reasons: NDArray[np.uint8] | None = None, *, title: str
) -> Path:
    """Write a bad pixel mask as a PNG, bad pixels enlarged and coloured by reason.

    Parameters
    ----------
    path
        The PNG; an existing one is replaced.
    bad
        Non-zero where a pixel is bad, shape (ny, nx).
    reasons
        Bits of `imaging.pixels.image.Reason`, same shape; default: all bad pixels have one colour.
    title
        Text of the label, next to the number of pixels by reason.
    """
    factor = -(-max(bad.shape) // LARGEST)
    picture = np.zeros([-(-n // factor) for n in bad.shape], np.uint8)
    legend: list[_Legend] = []
    unexplained = bad != 0
    chosen: list[tuple[int, NDArray[np.bool_]]] = []
    for i, (bit, _, name) in enumerate(_REASONS):
        here = unexplained if bit == 0 or reasons is None else unexplained & ((reasons & bit) != 0)
        if reasons is None and bit != 0:
            continue
        chosen.append((_FIRST_COLOUR + i, here))
        unexplained = unexplained & ~here
        if n := int(np.count_nonzero(here)):
            legend.append(_Legend(_FIRST_COLOUR + i, f"{name} {n}"))
    for colour, here in reversed(chosen):
        picture[_enlarged(here, factor)] = colour
    return _write(path, picture, title, legend or [_Legend(-1, "no bad pixels")])


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


def _grey(array: NDArray[Any], largest: int) -> tuple[NDArray[np.uint8], tuple[float, float] | None]:
    """Return palette indices, at most ``largest`` per side, and the limits; None without data."""
    small = block_mean(array, -(-max(array.shape) // largest))
    low, high = zscale(small)
    level = (small - np.float32(low)) * np.float32((_GREYS - 1) / (high - low))
    finite = np.isfinite(small)
    picture = np.where(finite, np.clip(np.nan_to_num(level), 0, _GREYS - 1), _NO_DATA).astype(np.uint8)
    return picture, (low, high) if finite.any() else None


def _enlarged(pixels: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Return the ``factor`` x ``factor`` blocks that contain one of the pixels, and the blocks around them."""
    ny, nx = (-(-n // factor) for n in pixels.shape)
    framed = np.zeros((ny + 2, nx + 2), bool)
    y, x = np.nonzero(pixels)
    framed[y // factor + 1, x // factor + 1] = True
    grown = np.zeros((ny, nx), bool)
    for i in range(3):
        for j in range(3):
            grown |= framed[i : i + ny, j : j + nx]
    return grown


def _reason_plane(product: ProductFile, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    table = read_table(product.path, REASONS)
    if table is None:
        return None
    reasons = np.zeros(shape, np.uint8)
    reasons[table["y"], table["x"]] = table["reason"]
    return reasons


def _write(path: Path, picture: NDArray[np.uint8], title: str, legend: list[_Legend]) -> Path:
    from PIL import Image, ImageDraw, ImageFont

    width = picture.shape[1]
    label = Image.new("L", (width, _LABEL_HEIGHT), 0)
    draw, font = ImageDraw.Draw(label), ImageFont.load_default(12)
    draw.text((6, 3), title, fill=_GREYS - 1, font=font)
    right = width - 6
    swatches: list[tuple[int, int]] = []
    for entry in reversed(legend):
        right -= int(draw.textlength(entry.text, font=font))
        draw.text((right, 3), entry.text, fill=_GREYS - 40, font=font)
        if entry.colour >= 0:
            right -= 14
            swatches.append((right, entry.colour))
        right -= 10
    bar = np.minimum(np.asarray(label), _GREYS - 1)
    for left, colour in swatches:
        bar[6:16, max(0, left) : max(0, left + 10)] = colour
    return _save(path, Image.fromarray(np.ascontiguousarray(np.vstack([picture[::-1], bar]))))


def _save(path: Path, picture: Picture, notes: Mapping[str, str] | None = None) -> Path:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for keyword, text in (notes or {}).items():
        texts.add_text(keyword, text)
    picture.putpalette(_palette())
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=3, pnginfo=texts)
    write_complete(path, [out.getvalue()], sync=False)
    return path


def _palette() -> bytes:
    greys = np.linspace(0, 255, _GREYS).round().astype(np.uint8)
    colours = [_NO_DATA_COLOUR, *(colour for _, colour, _ in _REASONS)]
    return bytes(np.repeat(greys, 3)) + bytes(value for colour in colours for value in colour)

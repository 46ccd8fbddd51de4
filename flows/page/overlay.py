"""Sources of a stack, and those that are stars of the reference catalogue, as circles over its preview."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from calib_store.store import Store
from flows.page.model import NightProduct
from flows.page.previews import stored_file
from imaging.errors import NirflowError
from imaging.io.raw_file import UNFORESEEN
from imaging.products.captions import Caption
from imaging.products.product_file import read_table

#: Sources that are drawn, brightest first, and all stars of the catalogue among the others up to that number.
_MOST: Final = 400
#: Radius of a circle, as part of the picture's width; magnitudes that stand for a missing one.
_RADIUS: Final = 0.009
_NO_MAGNITUDE: Final = 90.0
_COLUMNS: Final = ("X_IMAGE", "Y_IMAGE", "MAG_AUTO", "REF_NUMBER", "REF_MAG")


@dataclass(frozen=True)
class Circle:
    """A source: its centre, pixels from the upper left corner, a text, whether it is a star of the catalogue."""

    x: float
    y: float
    title: str
    is_reference: bool


@dataclass(frozen=True)
class Overlay:
    """Circles over a preview of this width and height, pixels of the picture."""

    width: int
    height: int
    radius: float
    circles: tuple[Circle, ...]

    @property
    def references(self) -> int:
        """Number of stars of the catalogue."""
        return sum(one.is_reference for one in self.circles)


def overlay_of(store: Store, product: NightProduct, caption: Caption | None) -> Overlay | None:
    """Return the sources of a stack over its preview; None without a preview or a catalogue of sources.

    Parameters
    ----------
    store
        The store with the product's file.
    product
        A stack.
    caption
        The caption of its preview, which has its scale.
    """
    if caption is None:
        return None
    try:
        table = read_table(stored_file(store, product), "OBJCAT")
    except (NirflowError, OSError, *UNFORESEEN):
        return None  # the page states why next to the picture and the frames
    if table is None or not set(_COLUMNS) <= set(table.dtype.names or ()):
        return None
    height, width = (max(1, n // caption.block) for n in caption.shape)
    rows = [row for row in table if math.isfinite(row["X_IMAGE"]) and math.isfinite(row["Y_IMAGE"])]
    in_catalogue = [row for row in rows if row["REF_NUMBER"] >= 0]
    others = [row for row in rows if row["REF_NUMBER"] < 0]
    circles = [_circle(row, caption.block, height) for row in (*in_catalogue[:_MOST], *others[:_MOST])]
    return Overlay(width, height, round(max(5.0, _RADIUS * width), 1), tuple(circles)) if circles else None


def _circle(row: Any, block: int, height: int) -> Circle:
    x, y = (float(row[name]) - 0.5 for name in ("X_IMAGE", "Y_IMAGE"))  # from the corner of the first pixel
    magnitude, reference = float(row["MAG_AUTO"]), float(row["REF_MAG"])
    is_reference = int(row["REF_NUMBER"]) >= 0
    parts = [f"{magnitude:.2f} mag" if magnitude < _NO_MAGNITUDE else "no magnitude"]
    if is_reference and math.isfinite(reference) and reference > -_NO_MAGNITUDE:
        parts.append(f"catalogue {reference:.2f}")
    return Circle(round(x / block, 1), round(height - y / block, 1), ", ".join(parts), is_reference)

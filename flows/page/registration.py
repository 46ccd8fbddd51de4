"""The registration of a stack's frames: their offsets from the reference, and flux and width of their
stars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from calib_store.store import Store
from flows.page.model import NightFrame, NightProduct
from flows.page.previews import stored_file
from imaging.errors import NirflowError
from imaging.io.raw_file import UNFORESEEN
from imaging.products.product_file import read_table


@dataclass(frozen=True)
class Registered:
    """One frame of a stack.

    Attributes
    ----------
    name
        The frame.
    started
        Start of its exposure; None if the store does not know the frame.
    dx, dy, uncertainty
        Shift onto the reference and its standard error, px.
    stars
        Matched stars.
    transparency
        Flux of the matched stars over their flux in the reference.
    seeing
        FWHM of its stars, px.
    sky
        Level of the sky that was subtracted, electrons.
    zero_point, zero_point_error
        Magnitude of a source of one electron in the frame, and its standard error, mag.
    airmass
        Of the frame.
    reference
        Whether it is the reference itself.
    used
        Whether it is in the stack.
    """

    name: str
    started: datetime | None
    dx: float | None
    dy: float | None
    uncertainty: float | None
    stars: int
    transparency: float | None
    seeing: float | None
    sky: float | None
    zero_point: float | None
    zero_point_error: float | None
    airmass: float | None
    reference: bool
    used: bool


def registrations(
    store: Store, product: NightProduct, frames: Mapping[str, NightFrame]
) -> tuple[tuple[Registered, ...], str]:
    """Return the frames of a stack in order of time, from its table ALIGNMENT, or the reason why they are
    missing.

    Parameters
    ----------
    store
        The store with the product's file.
    product
        A stack.
    frames
        Its frames by name, for their times.
    """
    try:
        table = read_table(stored_file(store, product), "ALIGNMENT")
    except NirflowError as error:
        return (), error.message
    except (OSError, *UNFORESEEN) as error:
        return (), f"the file is invalid ({type(error).__name__}: {error})"
    wanted = {"name", "dx", "dy", "uncertainty", "n_matched", "flux_scale", "found_by", "used"}
    if table is None or not wanted.issubset(table.dtype.names or ()):
        return (), "it has no ALIGNMENT table"
    rows = [_row(row, frames) for row in table]
    return tuple(sorted(rows, key=lambda one: (one.started is None, one.started or 0, one.name))), ""


def _row(row: Any, frames: Mapping[str, NightFrame]) -> Registered:
    name = str(row["name"]).strip()
    frame = frames.get(name)
    used, scale = bool(row["used"]), _finite(row["flux_scale"])
    return Registered(
        name=name,
        started=frame.facts.started if frame is not None else None,
        dx=_finite(row["dx"]) if used else None,
        dy=_finite(row["dy"]) if used else None,
        uncertainty=_finite(row["uncertainty"]) if used else None,
        stars=int(row["n_matched"]),
        transparency=scale if used and scale is not None and scale > 0 else None,
        seeing=_optional(row, "seeing"),
        sky=_optional(row, "sky"),
        zero_point=_optional(row, "zero_point"),
        zero_point_error=_optional(row, "zero_point_error"),
        airmass=frame.facts.airmass if frame is not None else None,
        reference=str(row["found_by"]).strip() == "reference",
        used=used,
    )


def _optional(row: Any, name: str) -> float | None:
    """Return a figure, or None for a table of an earlier version that lacks it."""
    return _finite(row[name]) if name in row.dtype.names else None


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None

"""Whether the pixels of a product are usable: one table of limits.

The limits are wide: products of every detector state and every software meet them, and broken files (zeros,
wrong units, a mask that rejects everything) do not. The comparison (`imaging.calibrations.compare`) decides
whether a product is good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import FrameError
from imaging.kinds import KINDS, LimitsName, class_named
from imaging.pixels.dq import UNUSABLE
from imaging.products.product_file import ProductFile

#: Rows read at a time.
_BAND: Final = 256
#: Interval between the rows that are used for the level.
_LEVEL_STEP: Final = 4
_UNUSABLE: Final = np.uint16(UNUSABLE)


@dataclass(frozen=True)
class Limits:
    """Requirements on the pixels of a product.

    Attributes
    ----------
    usable
        Smallest fraction of the pixels that must be usable: not flagged in DQ, or not bad in a mask.
    level
        Range of the median of the usable pixels of SCI; None if any level is possible.
    per_coadd
        Whether the level grows with the number of coadds.
    planes
        Planes that a reduction reads.
    unit
        BUNIT of SCI, if the header has one; None if it is not checked.
    remedy
        Remedy for a wrong level.
    """

    usable: float
    level: tuple[float, float] | None = None
    per_coadd: bool = False
    planes: tuple[str, ...] = ()
    unit: str | None = None
    remedy: str = ""


#: By the name used in the table of kinds (`imaging.kinds`).
LIMITS: Final[dict[LimitsName, Limits]] = {
    "dark": Limits(
        usable=0.5,
        level=(-50.0, 20_000.0),
        per_coadd=True,
        planes=("SCI", "VAR", "DQ"),
        unit="electron",
        remedy="Provide a dark in electrons without any subtraction, or make the dark again.",
    ),
    "response": Limits(
        usable=0.3,  # the circle of light covers 78 % of the detector
        level=(0.5, 2.0),
        planes=("SCI", "VAR", "DQ"),
        remedy="Divide the SCI of a flat in counts by its median, and VAR by the square of it; "
        "if the flat has no light, make it again.",
    ),
    "mask": Limits(usable=0.5),  # unilluminated corners (22 %) may count as bad
    "displacement": Limits(usable=0.99, planes=("SCI", "VAR", "DQ"), unit="pixel"),
    "stack": Limits(usable=0.05, planes=("SCI",)),  # most pixels of a wide mosaic are empty
}


def check_usable(kind: str, product: ProductFile, name: str | None = None) -> None:
    """Refuse a product whose pixels are unusable.

    Every pixel is read, and those that are usable according to DQ must have a finite value and a positive
    variance. What a file contains besides pixels is read too.

    Parameters
    ----------
    kind
        Kind of the product.
    product
        The product.
    name
        File name for the message; default: that of the product.

    Raises
    ------
    FrameError
        With the plane, the value found, the value expected, and a remedy.
    """
    name, limits = name or product.path.name, LIMITS[KINDS[kind].limits]
    if KINDS[kind].unit is None:
        bad = sum(int(np.count_nonzero(band)) for band in _mask_bands(product))
        size = max(product.shape[0] * product.shape[1], 1)
        _check_share(name, "DQ" if "DQ" in product else "SCI", 1.0 - bad / size, limits)
        return
    if missing := [plane for plane in limits.planes if plane not in product]:
        raise FrameError(
            name, f"no plane {', '.join(missing)}: a {kind} is applied with {', '.join(limits.planes)}",
            remedy="Provide the product with all its planes (DRAGONS writes them in mode sq).",
        )  # fmt: skip
    _check_unit(name, product, limits)
    if KINDS[kind].content:
        class_named(KINDS[kind].content)(product.path)
    usable = total = not_finite = not_positive = 0
    sample: list[NDArray[Any]] = []
    for sci, var, good in _bands(product):
        total += sci.size
        usable += int(np.count_nonzero(good))
        finite = np.isfinite(sci)
        not_finite += int(np.count_nonzero(good & ~finite))
        if var is not None:
            not_positive += int(np.count_nonzero(good & ~((var > 0) & np.isfinite(var))))
        some = (good & finite)[::_LEVEL_STEP]
        sample.append(sci[::_LEVEL_STEP][some])
    _check_share(name, "DQ" if "DQ" in product else "SCI", usable / max(total, 1), limits)
    _check_values(name, "SCI", "not a finite number", "a finite value", not_finite, usable)
    _check_values(name, "VAR", "zero, negative or not finite", "a variance above 0", not_positive, usable)
    values = np.concatenate(sample)
    _check_level(name, float(np.median(values)) if values.size else float("nan"), product, limits)


def _mask_bands(product: ProductFile) -> Iterator[NDArray[np.uint8]]:
    for first in range(0, product.shape[0], _BAND):
        yield product.bad_pixels(slice(first, first + _BAND))


def _bands(product: ProductFile) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None, NDArray[np.bool_]]]:
    """Yield SCI, VAR and the pixels that are usable according to DQ, band by band."""
    for first in range(0, product.shape[0], _BAND):
        rows = slice(first, first + _BAND)
        sci = product.rows("SCI", rows)
        var = product.rows("VAR", rows) if "VAR" in product else None
        if "DQ" in product:
            yield sci, var, (product.rows("DQ", rows) & _UNUSABLE) == 0
        else:
            yield sci, var, np.isfinite(sci)


def _check_unit(name: str, product: ProductFile, limits: Limits) -> None:
    found = str(product.header.get("BUNIT", "")).strip()
    if limits.unit is None or found.lower() in ("", limits.unit, f"{limits.unit}s", "e-"):
        return
    raise FrameError(
        name, "plane SCI has the wrong unit", keyword="BUNIT", found=found, expected=f"{limits.unit!r}",
        remedy=f"Convert the planes to {limits.unit}s (DRAGONS: ADUToElectrons).",
    )  # fmt: skip


def _check_share(name: str, plane: str, share: float, limits: Limits) -> None:
    if share >= limits.usable:
        return
    raise FrameError(
        name, f"plane {plane}: {share:.1%} of the pixels are usable, expected at least {limits.usable:.0%}",
        remedy="Correct the flags, or make the product again.",
    )  # fmt: skip


def _check_values(name: str, plane: str, wrong: str, expected: str, count: int, usable: int) -> None:
    if count:
        raise FrameError(
            name, f"plane {plane} is {wrong} in {count} of the {usable} pixels that DQ marks as usable, "
            f"expected {expected} in each",
            remedy="Flag these pixels in DQ (1 for bad, 16 for no data), or make the product again.",
        )  # fmt: skip


def _check_level(name: str, level: float, product: ProductFile, limits: Limits) -> None:
    if limits.level is None:
        return
    factor = product.facts.coadds if limits.per_coadd else 1
    lowest, highest = (limit * factor for limit in limits.level)
    if not lowest <= level <= highest:
        unit = f" {limits.unit}s" if limits.unit else ""
        raise FrameError(
            name, f"plane SCI: the median of the usable pixels is {level:g}, expected {lowest:g} to "
            f"{highest:g}{unit}", remedy=limits.remedy,
        )  # fmt: skip

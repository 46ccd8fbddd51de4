"""Names of stacks that distinguish two of one target."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flows.page.model import NightProduct

#: The night at the end of a label, which the page has in its heading.
_NIGHT: Final = re.compile(r",? \d{4}-\d{2}-\d{2}$")


def distinct_labels(products: Sequence[NightProduct]) -> dict[Any, str]:
    """Return a name for each product that no other has: with its time, its exposure or its file if need be."""
    names = {one.id: _NIGHT.sub("", one.label) or one.name for one in products}
    for more in (_time_of, _exposure_of, lambda one: one.name.removesuffix(".fits")):
        counts = Counter(names.values())
        names |= {
            one.id: f"{names[one.id]}, {more(one)}"
            for one in products
            if counts[names[one.id]] > 1 and more(one)
        }
    return names


def _time_of(product: NightProduct) -> str:
    return f"{product.span[0]:%H:%M} to {product.span[1]:%H:%M} UT" if product.span is not None else ""


def _exposure_of(product: NightProduct) -> str:
    exposure = exposure_of(product.facts)
    return f"{len(product.inputs)} x {exposure:g} s" if exposure else ""


def exposure_of(facts: Mapping[str, Any]) -> float | None:
    """Return the exposure of a frame with all its coadds, s, from the facts of a product; None if it is unknown."""
    try:
        exposure = float(facts["exposure_time"]) * float(facts.get("coadds") or 1)
    except (KeyError, TypeError, ValueError):
        return None
    return exposure if exposure > 0 else None

"""A short description of what a product serves, and which kinds of product a frame needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imaging.kinds import CALIBRATION_KINDS, KINDS, STACK
from imaging.listed import filled

if TYPE_CHECKING:
    from calib_store.model.records import Product
    from imaging.frames.facts import FrameFacts

#: Facts of the configuration that a product serves, in the order in which a table shows them.
_SERVES = (
    ("filter_id", "{filter_id}"), ("exposure_time", "{exposure_time:g} s"), ("read_pairs", "{read_pairs:n read}"),
    ("coadds", "{coadds:n coadd}"), ("detector", "detector {detector}"),
)  # fmt: skip


def serves(product: Product) -> str:
    """Return a short description of the configuration that a product serves; for an image, of its own."""
    facts = product.keys or product.facts
    shown = {key: filled(form, facts) for key, form in _SERVES if facts.get(key) not in (None, "")}
    if facts.get("coadds") == 1:
        shown.pop("coadds")
    if len(shown) > 1:
        shown.pop("detector", None)
    return ", ".join(shown.values())


def kinds_for(facts: FrameFacts) -> tuple[str, ...]:
    """Return the kinds of calibration for a frame's products, also optional ones; for an unusual frame, of science."""
    thermal = facts.filter in facts.table.thermal_bands
    made_of = [kind for kind in KINDS.values() if facts.kind in kind.frames] or [STACK]
    needed = {one for kind in made_of for one in (*kind.made_with(thermal=thermal), *kind.uses)}
    return tuple(kind for kind in CALIBRATION_KINDS if kind in needed)

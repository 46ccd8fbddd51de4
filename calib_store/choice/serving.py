"""What a product serves, in a few words, and which kinds of product a frame takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imaging.kinds import CALIBRATION_KINDS, KINDS

if TYPE_CHECKING:
    from calib_store.model.records import Product
    from imaging.frames.facts import FrameFacts

#: Facts of the configuration that a product serves, in the order in which a table tells them.
_SERVES = (
    ("filter_id", "{}"), ("exposure_time", "{:g} s"), ("read_pairs", "{} reads"), ("coadds", "{} coadds"),
    ("detector", "detector {}"),
)  # fmt: skip


def serves(product: Product) -> str:
    """The configuration that a product serves, in a few words; of an image, its own."""
    facts = product.keys or product.facts
    told = {key: form.format(facts[key]) for key, form in _SERVES if facts.get(key) not in (None, "")}
    if facts.get("coadds") == 1:
        told.pop("coadds")
    if len(told) > 1:
        told.pop("detector", None)
    return ", ".join(told.values())


def kinds_for(facts: FrameFacts) -> tuple[str, ...]:
    """Return the kinds of calibration that the products made of a frame take; of an unusual frame, those of science."""
    thermal = facts.filter in facts.table.thermal_bands
    made_of = [kind for kind in KINDS.values() if facts.kind in kind.frames] or [KINDS["image"]]
    needed = {one for kind in made_of for one in kind.made_with(thermal=thermal)}
    return tuple(kind for kind in CALIBRATION_KINDS if kind in needed)

"""The names that an expression about products may use: identity, validity and figures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from imaging.kinds import PRODUCT_KINDS, in_a_sentence
from nirflow.expressions.frame_names import aliases, frame_names, own_names
from nirflow.expressions.language import Name, ValueKind

if TYPE_CHECKING:
    from calib_store.model.records import Product
    from imaging.figures import Description

_OWN: Final = {
    "id": Name(ValueKind.TEXT, "id of the product"),
    "name": Name(ValueKind.TEXT, "file name"),
    "kind": Name(ValueKind.TEXT, in_a_sentence(PRODUCT_KINDS), PRODUCT_KINDS),
    "status": Name(
        ValueKind.TEXT, "candidate, certified, rejected or superseded",
        ("candidate", "certified", "rejected", "superseded"),
    ),
    "made": Name(ValueKind.MOMENT, "when it was made"),
    "taken": Name(ValueKind.MOMENT, "beginning of its inputs' exposures"),
    "middle": Name(ValueKind.MOMENT, "middle of its inputs' exposures"),
    "size": Name(ValueKind.NUMBER, "bytes of its file"),
    "software": Name(ValueKind.TEXT, "what made it"),
    "damaged": Name(ValueKind.FLAG, "its file was found missing or damaged"),
    "doubtful": Name(ValueKind.FLAG, "it failed the comparison with a certified one, or its frames disagree"),
    "published": Name(ValueKind.FLAG, "the observatory published it"),
}  # fmt: skip
#: Facts of the first input that are useful in expressions.
_FACTS: Final = (
    "target", "exposure_time", "coadds", "read_pairs", "filter_id", "filter", "focal_mask", "disperser",
    "detector", "section", "binning", "program", "observation_id", "airmass",
)  # fmt: skip
_KINDS: Final[dict[type, ValueKind]] = {
    bool: ValueKind.FLAG, int: ValueKind.NUMBER, float: ValueKind.NUMBER, str: ValueKind.TEXT,
    datetime: ValueKind.TEXT,  # as stored among the figures
}  # fmt: skip


@cache
def product_names() -> dict[str, Name]:
    """Return every name that describes a product."""
    facts = {name: frame_names()[name] for name in (*_FACTS, *own_names())}
    others = {alias: facts[name] for alias, name in aliases().items() if name in facts}
    return {**_figure_names(), **facts, **others, **_OWN}


def product_lookup(product: Product) -> Callable[[str], Any]:
    """Return a function that looks up the values of one product; a missing one is none."""
    own = {
        "id": str(product.id), "name": product.name, "kind": product.kind, "status": product.status,
        "made": product.made_at, "taken": product.span[0], "middle": product.middle, "size": product.size,
        "software": product.software_version, "damaged": product.damaged, "doubtful": product.doubtful,
        "published": product.published,
    }  # fmt: skip

    def value(name: str) -> Any:
        if name in own:
            return own[name]
        fact = aliases().get(name, name)
        if fact in _FACTS or fact in own_names():
            return product.facts.get(fact)
        found = product.metrics.get(name)
        # JSON has one kind of number, and a figure may have a different kind in a product of another version.
        return found if isinstance(found, (bool, int, float, str)) and _fits(found, name) else None

    return value


def _fits(value: object, name: str) -> bool:
    kind = product_names()[name].kind
    return kind is (ValueKind.NUMBER if type(value) in (int, float) else _KINDS[type(value)])


def _figure_names() -> dict[str, Name]:
    """Return the figures of all kinds; the meaning names the kinds if it differs between them."""
    from imaging.product_figures import figures_of, metric_models

    found: dict[str, dict[str, Description]] = {}
    for kind in metric_models():
        for name, one in figures_of(kind).items():
            if not one.per_frame:
                found.setdefault(name, {})[kind] = one
    return {name: Name(_KINDS[next(iter(of.values())).type], _meaning(of)) for name, of in found.items()}


def _meaning(of: dict[str, Description]) -> str:
    """Return the meaning of a figure, given its descriptions for each kind of product."""
    meanings = {kind: f"{one.meaning}, {one.unit}" if one.unit else one.meaning for kind, one in of.items()}
    if len(set(meanings.values())) == 1:
        return next(iter(meanings.values()))
    return "; ".join(f"{kind}: {meaning}" for kind, meaning in meanings.items())

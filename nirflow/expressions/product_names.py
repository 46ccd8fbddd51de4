"""The names that an expression about products may use: what they are, what they serve, and their figures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

from imaging.kinds import PRODUCT_KINDS, in_a_sentence
from nirflow.expressions.frame_names import aliases, frame_names, own_names
from nirflow.expressions.language import Name, ValueKind

if TYPE_CHECKING:
    from calib_store.model.records import Product

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
    "doubtful": Name(ValueKind.FLAG, "it failed the comparison with a certified one"),
    "published": Name(ValueKind.FLAG, "the observatory published it"),
}  # fmt: skip
#: Facts of the first input that are worth asking for.
_FACTS: Final = (
    "target", "exposure_time", "coadds", "read_pairs", "filter_id", "filter", "focal_mask", "disperser",
    "detector", "section", "binning", "program", "observation_id", "airmass",
)  # fmt: skip
_KINDS: Final[dict[type, ValueKind]] = {
    bool: ValueKind.FLAG, int: ValueKind.NUMBER, float: ValueKind.NUMBER, str: ValueKind.TEXT,
}  # fmt: skip


@cache
def product_names() -> dict[str, Name]:
    """Every name that describes a product."""
    figures: dict[str, Name] = {}
    for model in _models():
        figures |= _figures(model)
    facts = {name: frame_names()[name] for name in (*_FACTS, *own_names())}
    others = {alias: facts[name] for alias, name in aliases().items() if name in facts}
    return {**figures, **facts, **others, **_OWN}


def product_lookup(product: Product) -> Callable[[str], Any]:
    """Give an expression the values of one product; what it does not have is none."""
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
        # JSON has one kind of number, and a product of another version another kind of figure.
        return found if isinstance(found, (bool, int, float, str)) and _fits(found, name) else None

    return value


def _fits(value: object, name: str) -> bool:
    kind = product_names()[name].kind
    return kind is (ValueKind.NUMBER if type(value) in (int, float) else _KINDS[type(value)])


def _models() -> tuple[type[BaseModel], ...]:
    from imaging.calibrations.bpm import BpmMetrics
    from imaging.calibrations.dark import DarkMetrics
    from imaging.calibrations.flat import FlatMetrics
    from imaging.stack.stack import StackMetrics

    return (DarkMetrics, BpmMetrics, FlatMetrics, StackMetrics, _Stack)


class _Stack(BaseModel):
    """Figures that a stack gets besides those of the combination itself."""

    reference: str
    registration: float
    seeing: float
    sources: int
    sky: float


def _figures(model: type[BaseModel]) -> dict[str, Name]:
    """A model's figures under the names that the store has them by: ``pedestal.value`` is ``pedestal``."""
    names = {}
    for field, info in model.model_fields.items():
        kind = _plain(info.annotation)
        meaning = info.description or field.replace("_", " ")
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for inner, name in _figures(kind).items():
                names[field if inner == "value" else f"{field}_{inner}"] = name
        elif kind is datetime:
            names[field] = Name(ValueKind.TEXT, meaning)
        elif kind in _KINDS:
            names[field] = Name(_KINDS[kind], meaning)
    return names


def _plain(annotation: Any) -> Any:
    if get_origin(annotation) in (UnionType, Union):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation

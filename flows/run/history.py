"""Histories of the products' figures over the nights, as artifacts with constant keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from prefect import runtime

from calib_store.model.product_nights import night_of
from calib_store.model.records import Product
from calib_store.store import Store
from imaging.kinds import KINDS
from imaging.product_figures import figures_of, metric_models
from tasks.support.artifacts import key_of, publish_table
from tasks.support.references import ProductRef

#: Number of nights in a history.
_LENGTH: Final = 60


def publish_history(store: Store, products: Sequence[ProductRef]) -> None:
    """Publish a table for each configuration of the products: its figures over the last nights, newest
    first.
    """
    if not runtime.flow_run.id:
        return
    for kind in metric_models():
        made = [store.get(ref.uuid) for ref in products if ref.kind == kind]
        mine = {_configuration(product): product for product in made}
        before = store.products(kind, limit=10 * _LENGTH) if mine else ()
        for product in mine.values():
            rows = history_rows(product, [one for one in before if _continues(one, product)])
            publish_table(key_of("history", _title(product)), rows, f"{_title(product)} over the nights")


def history_rows(product: Product, others: Sequence[Product]) -> list[dict[str, object]]:
    """Return the rows of the table: night, product, status, and every figure that any of them has."""
    every = sorted({one.id: one for one in (product, *others)}.values(), key=lambda p: p.middle, reverse=True)
    figures = {
        name: one.displays[0]
        for name, one in figures_of(product.kind).items()
        if one.history and any(other.metrics.get(name) is not None for other in every)
    }
    return [
        {"night": str(night_of(one.facts, one.span)), "product": one.name, "status": one.status}
        | {
            display.heading: _rounded(display.scaled(one.metrics.get(name)))
            for name, display in figures.items()
        }
        for one in every[:_LENGTH]
    ]


def _continues(one: Product, product: Product) -> bool:
    return one.counts and _configuration(one) == _configuration(product)


def _title(product: Product) -> str:
    """Return the usual name of the configuration, from which the key of its history is made.

    The rules determine which facts a configuration has, and rules change: a fact that the default rules
    compare may be missing.
    """
    kind = KINDS[product.kind]
    if not kind.is_calibration:
        return f"{kind.name} {kind.configured(_Facts(product.facts))}".strip()
    try:
        usual = kind.configured(product.keys)
    except KeyError:
        usual = ""
    return f"{kind.name} {usual}" if usual else _configuration(product)


class _Facts(dict[str, Any]):
    """Facts of a product; those that it lacks are empty."""

    def __missing__(self, name: str) -> str:
        return ""


def _configuration(product: Product) -> str:
    """Return what products must share for their figures to be comparable: the configuration of calibrations,
    and of other products its usual name.
    """
    if not KINDS[product.kind].is_calibration:
        return _title(product)
    return " ".join([product.kind, *(f"{name} {product.keys[name]}" for name in sorted(product.keys))])


def _rounded(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) else value

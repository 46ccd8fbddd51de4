"""The models that declare the figures of each kind of product."""

from __future__ import annotations

from functools import cache

from imaging.figures import Description, Metrics, describe
from imaging.kinds import KINDS, class_named


@cache
def metric_models() -> dict[str, type[Metrics]]:
    """Return the model of figures for each kind of product.

    The modules of the steps are slow to import, and most commands show no figures: hence a function.
    """
    return {kind.name: class_named(kind.metrics) for kind in KINDS.values()}


def figures_of(kind: str) -> dict[str, Description]:
    """Return the descriptions of the figures of a kind of product; empty for a kind without a model."""
    model = metric_models().get(kind)
    return describe(model) if model is not None else {}

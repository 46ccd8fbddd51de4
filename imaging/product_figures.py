"""The figures of each kind of product: which model declares them."""

from __future__ import annotations

from functools import cache

from imaging.figures import Description, Metrics, describe


@cache
def metric_models() -> dict[str, type[Metrics]]:
    """Return the model of the figures of each kind of product that has any."""
    # Late: the steps' modules are slow to import, and most commands show no figures.
    from imaging.calibrations.bpm import BpmMetrics
    from imaging.calibrations.dark import DarkMetrics
    from imaging.calibrations.flat import FlatMetrics
    from imaging.stack.stack import StackMetrics

    return {"dark": DarkMetrics, "bpm": BpmMetrics, "flat": FlatMetrics, "image": StackMetrics}


def figures_of(kind: str) -> dict[str, Description]:
    """Return what is declared of the figures of a kind of product; nothing for a kind without a model."""
    model = metric_models().get(kind)
    return describe(model) if model is not None else {}

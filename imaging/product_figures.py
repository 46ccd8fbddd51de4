"""The models that declare the figures of each kind of product."""

from __future__ import annotations

from functools import cache

from imaging.figures import Description, Metrics, describe


@cache
def metric_models() -> dict[str, type[Metrics]]:
    """Return the model of figures for each kind of product that has one."""
    # Imported late: the modules of the steps are slow to import, and most commands show no figures.
    from imaging.calibrations.bpm import BpmMetrics
    from imaging.calibrations.dark import DarkMetrics
    from imaging.calibrations.flat import FlatMetrics
    from imaging.stack.stack import StackMetrics

    return {"dark": DarkMetrics, "bpm": BpmMetrics, "flat": FlatMetrics, "image": StackMetrics}


def figures_of(kind: str) -> dict[str, Description]:
    """Return the descriptions of the figures of a kind of product; empty for a kind without a model."""
    model = metric_models().get(kind)
    return describe(model) if model is not None else {}

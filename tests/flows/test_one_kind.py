"""The flow for a single kind of product, and the names in the recipes."""

from __future__ import annotations

import importlib

import pytest

from flows.one_kind import flow_of
from flows.recipes.all_recipes import RECIPES
from imaging.kinds import TARGETS, Target

#: Module and name of the flows that users import, with the names of their runs.
FLOWS: dict[Target, tuple[str, str, str]] = {
    "dark": ("flows.dark", "reduce_darks", "darks in {out}"),
    "bpm": ("flows.bpm", "reduce_bpm", "bad pixel mask in {out}"),
    "flat": ("flows.flat", "reduce_flats", "flats in {out}"),
    "distortion": ("flows.distortion", "reduce_distortions", "distortions in {out}"),
    "science": ("flows.science", "reduce_science", "science in {out}"),
}


@pytest.mark.parametrize("target", FLOWS)
def test_the_flows_that_users_import(target: Target) -> None:
    module, name, runs = FLOWS[target]
    flow = getattr(importlib.import_module(module), name)
    assert (flow.name, flow.flow_run_name) == (target, runs)
    assert list(flow.parameters.properties) == ["paths", "out", "options"]
    assert flow.description.endswith(".")


def test_every_kind_has_a_flow_and_its_sets_a_name() -> None:
    names = [flow_of(target).name for target in TARGETS]
    assert tuple(names) == TARGETS
    sets = [recipe.of_sets for recipe in RECIPES.values()]
    assert {"darks", "bad pixel masks", "flats", "science groups"} <= {*sets}
    assert len({*sets}) == len(sets)


def test_recipes_are_of_kinds_after_those_that_they_need() -> None:
    order = [*RECIPES]
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert {*recipe.kind.made_with()} <= {*order[: order.index(name)]}

"""The recipes of all kinds, found by the table of kinds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any

from flows.recipes.kind_recipe import KindRecipe
from imaging.kinds import KINDS, ProductKind


@cache
def all_recipes() -> Mapping[ProductKind, KindRecipe[Any]]:
    """Return the recipe of each kind, in the order of the table: each after those that it needs.

    Each is ``RECIPE`` in the module of this folder that has the name of the kind's target.
    """
    return MappingProxyType(
        {kind.name: import_module(f"{__package__}.{kind.target}").RECIPE for kind in KINDS.values()}
    )

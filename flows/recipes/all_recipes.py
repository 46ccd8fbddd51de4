"""The recipes of all kinds, found by the table of kinds."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from flows.recipes.kind_recipe import KindRecipe
from imaging.kinds import REDUCED, ProductKind

#: The recipe of each kind that a reduction makes, in the order of the table: each after those that it needs. Each is
#: ``RECIPE`` in the module of this folder that has the name of the kind's target.
RECIPES: Final[Mapping[ProductKind, KindRecipe[Any]]] = MappingProxyType(
    {kind.name: import_module(f"{__package__}.{kind.target}").RECIPE for kind in REDUCED}
)

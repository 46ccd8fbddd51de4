"""Whether the recipe key of a product matches its recorded inputs.

A product is found, and used again, by its recipe key. A key from another store is therefore compared with the one that
follows from kind, inputs, parameters and algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from calib_store.model.records import Foreign, InputRef, input_key, recipe_key
from calib_store.model.values import IN_PARAMETERS, exposure_keys, exposures_in

#: Algorithm version of a product made elsewhere, and the only input of its recipe: its file.
ADOPTED: Final = "adopted"
#: Figures with frames that belong to the recipe but are not inputs, or have another role.
_BEYOND_INPUTS: Final = ("unused", "given_as")


def adopted_key(kind: str, sha256: str) -> str:
    """Return the recipe key of a file that was made elsewhere."""
    return recipe_key(kind, [sha256], adopted_parameters(kind), ADOPTED)


def adopted_parameters(kind: str) -> dict[str, Any]:
    """Return the parameters of a file that was made elsewhere."""
    return {"adopted": True, "kind": kind}


def expected_key(
    kind: str,
    sha256: str,
    inputs: Sequence[InputRef],
    keys: Mapping[UUID, str],
    parameters: Mapping[str, Any],
    algorithm_version: str,
    *,
    metrics: Mapping[str, Any],
    provisional: str | None,
) -> str | None:
    """Return the recipe key that a product must have, or None if its inputs do not determine it.

    They do not include frames that were given and left out, nor a user's allowances and choices: then the recipe
    contains more.

    Parameters
    ----------
    kind, sha256, inputs, parameters, algorithm_version
        The product.
    keys
        Recipe keys of the products among its inputs whose own keys were confirmed.
    metrics, provisional
        They show whether the recipe contains more than the inputs; the exposures before them are among the metrics.
    """
    if algorithm_version == ADOPTED:
        return adopted_key(kind, sha256)
    if provisional is not None or any(metrics.get(name) for name in _BEYOND_INPUTS):
        return None
    named = []
    for ref in inputs:
        if ref.role in IN_PARAMETERS:
            continue
        if isinstance(ref.source, Foreign) or (isinstance(ref.source, UUID) and ref.source not in keys):
            return None
        identity = keys[ref.source] if isinstance(ref.source, UUID) else ref.source
        named.append(input_key(ref.role, identity))
    named += exposure_keys(exposures_in(metrics))
    return recipe_key(kind, named, parameters, algorithm_version)

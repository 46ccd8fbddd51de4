"""Which product gets the plain name in the output folder if several products share that name."""

from __future__ import annotations

import logging
from pathlib import Path

from calib_store.model.records import Product, Tier
from calib_store.store import Store
from imaging.kinds import CALIBRATION_KINDS
from imaging.products.placing import PlacedProduct, place_product
from tasks.support.workspace import Workspace

log = logging.getLogger(__name__)


def place(product: Product, file: Path, folder: Path, workspace: Workspace) -> PlacedProduct:
    """Copy a product's file to the output folder, or link a calibration, under its plain name if it is entitled to it.

    Stacks are copied, because observers edit them; calibrations are the same in every folder, and read only.

    Parameters
    ----------
    product
        The product.
    file
        Its file in the store.
    folder
        The output folder.
    workspace
        Whether other content is replaced, and whether the run uses the store as of a past moment: then no
        current product loses its name.
    """
    store = workspace.store()
    placed = place_product(
        file,
        folder / product.name,
        key=product.recipe_key,
        overwrite=workspace.overwrite,
        yields=lambda key: workspace.as_of is None and _takes_name(product, key, store),
        link=product.kind in CALIBRATION_KINDS,
    )
    if placed.moved is not None:
        picture = placed.path.with_suffix(".png")
        if picture.is_file():
            picture.replace(placed.moved.with_suffix(".png"))
        log.info(
            "%s is %s now and no longer valid; %s is",
            placed.path,
            placed.moved.name,
            product.name_and_id,
        )
    return placed


def _takes_name(product: Product, key: str, store: Store) -> bool:
    """Return whether a product is sound while the one with this recipe key, which holds the name, is not."""
    other = store.known(key)
    return other is not None and not _sound(other) and _sound(product)


def _sound(product: Product) -> bool:
    """Return whether a product is valid and none of its inputs is rejected."""
    return product.counts and product.tier is not Tier.TAINTED

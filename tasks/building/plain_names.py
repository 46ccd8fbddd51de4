"""Which product has the plain name in the output folder, where several of one name are in it."""

from __future__ import annotations

import logging
from pathlib import Path

from calib_store.model.records import Product, Tier
from calib_store.store import Store
from imaging.products.placing import PlacedProduct, place_product
from tasks.support.workspace import Workspace

log = logging.getLogger(__name__)


def place(product: Product, file: Path, folder: Path, workspace: Workspace) -> PlacedProduct:
    """Copy a product's file to the output folder, under its plain name where that is its due.

    Parameters
    ----------
    product
        The product.
    file
        Its file in the store.
    folder
        The output folder.
    workspace
        Whether other content is replaced, and whether the run goes by a moment in the past: then no product of today
        loses its name.
    """
    store = workspace.store()
    placed = place_product(
        file,
        folder / product.name,
        key=product.recipe_key,
        overwrite=workspace.overwrite,
        yields=lambda key: workspace.as_of is None and _takes_name(product, key, store),
    )
    if placed.moved is not None:
        picture = placed.path.with_suffix(".png")
        if picture.is_file():
            picture.replace(placed.moved.with_suffix(".png"))
        log.info(
            "%s is %s now: it does not count, and %s does",
            placed.path,
            placed.moved.name,
            product.name_and_id,
        )
    return placed


def _takes_name(product: Product, key: str, store: Store) -> bool:
    """Whether a product is sound and the one of the recipe key, which has the name, is not."""
    other = store.known(key)
    return other is not None and not _sound(other) and _sound(product)


def _sound(product: Product) -> bool:
    """Whether a product counts and nothing that it was made from is rejected."""
    return product.counts and product.tier is not Tier.TAINTED

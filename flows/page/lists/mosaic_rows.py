"""The mosaics in the list of nights: they belong to a field, not to a night."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from calib_store.model.product_nights import nights_of
from calib_store.store import Store
from imaging.kinds import MOSAIC

#: Folder of the mosaics, next to those of the nights.
FOLDER: Final = "mosaics"
_MOST: Final = 200


@dataclass(frozen=True)
class MosaicRow:
    """A mosaic.

    Attributes
    ----------
    field, band
        Target, and filter.
    first, last
        First and last night of its stacks.
    stacks
        How many stacks were combined.
    depth
        Magnitude of a point source of five sigma; empty if unknown.
    note
        What is wrong with it; empty if nothing is.
    picture
        Its preview, or the product itself; None if it is in another folder.
    """

    field: str
    band: str
    first: str
    last: str
    stacks: int
    depth: str
    note: str
    picture: Path | None


def mosaic_rows(store: Store, folder: Path) -> list[MosaicRow]:
    """Return the mosaics that count, newest first.

    Parameters
    ----------
    store
        The store.
    folder
        Folder of all nights' pages.
    """
    return list(_rows(store, folder / FOLDER))


def _rows(store: Store, folder: Path) -> Iterator[MosaicRow]:
    for product in store.products(MOSAIC.name, limit=_MOST):
        if not product.counts:
            continue
        first, last = nights_of(product.facts, product.span)
        depth = product.metrics.get("limiting_magnitude")
        files = (folder / product.name).with_suffix(".png"), folder / product.name
        yield MosaicRow(
            field=str(product.facts.get("target") or product.facts.get("observation") or "unknown"),
            band=str(product.facts.get("filter") or ""),
            first=str(first),
            last=str(last),
            stacks=int(product.metrics["ncombine"]),
            depth=f"{depth:.2f}" if isinstance(depth, float) else "",
            note=product.state.removeprefix(product.status).removeprefix(", "),
            picture=next((file for file in files if file.is_file()), None),
        )

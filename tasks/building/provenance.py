"""The tables of a product that list its inputs: PROVENANCE and LINEAGE."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from calib_store.model.records import LineageEdge
from calib_store.store import Store
from imaging.products.product_file import product_name
from imaging.products.product_tables import LineageRow, ProvenanceRow, stamped
from tasks.building.recipe import Ingredient, Recipe
from tasks.support.workspace import Workspace


def provenance(
    recipe: Recipe,
    made_from: Sequence[Ingredient],
    md5_of: Mapping[str, str],
    stamp: datetime,
    workspace: Workspace,
) -> list[ProvenanceRow]:
    """Return the raw frames and the products, with their md5 sums as DRAGONS records them."""
    rows = [ProvenanceRow(stamped(stamp), i.name, md5_of[i.frame.sha256], "nirflow") for i in made_from]
    local = workspace.store().objects.local
    products = [(p.name, p.sha256) for p in recipe.calibrations.present]
    products += [(p.name, p.sha256) for p in (*recipe.named, *recipe.standards)]
    return rows + [ProvenanceRow(stamped(stamp), name, _md5(local(sha)), "nirflow") for name, sha in products]


def lineage(recipe: Recipe, made_from: Sequence[Ingredient], store: Store) -> list[LineageRow]:
    """Return every ancestor: the frames, the products and all of their inputs."""
    own = product_name(recipe.first.name, recipe.kind)
    rows = [LineageRow(i.name, i.frame.sha256, i.role, own) for i in made_from]
    combined = [i.ref for i in made_from if i.product is not None]
    for ref in (*combined, *recipe.made_with):
        product = store.get(str(ref.source))
        rows.append(LineageRow(product.name, product.sha256, ref.role, own))
        edges = store.lineage(product).edges
        names = {product.id: product.name}
        names |= {e.input_product_id: e.name for e in edges if e.input_product_id is not None}
        for edge in edges:
            rows.append(
                LineageRow(edge.name, _identity(edge, store), edge.role, names.get(edge.product_id, ""))
            )
    return list(dict.fromkeys(rows))


def _identity(edge: LineageEdge, store: Store) -> str:
    """Return the sha256 of an ancestor; if the store does not have it, its known checksum, if any."""
    if edge.frame_sha256 is not None:
        return edge.frame_sha256
    if edge.input_product_id is not None:
        return store.get(edge.input_product_id).sha256
    return edge.checksum.removeprefix("sha256:")


def _md5(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

"""What the commands of the store share: how products, users and times are named, and products described."""

from __future__ import annotations

from datetime import datetime
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from calib_store.choice.serving import serves
from calib_store.user_name import user_name
from nirflow.console.tables import cell
from nirflow.moments import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calib_store.model.records import Frame, LineageEdge, Product
    from calib_store.store import Store

ProductName = Annotated[
    str,
    typer.Argument(metavar="ID", help="A product's file name, or its id, sha256 or first digits of one."),
]
ProductOrFrame = Annotated[
    str,
    typer.Argument(
        metavar="ID_OR_FRAME", help="A product (file name, id or its first digits), or a raw frame's name."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Author = Annotated[
    str | None, typer.Option("--author", help="Who makes the decision. Default: the account's name.")
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="Use the store and its rules as of that moment: 2026-11-01T12:00, UT. A date alone means 00:00 UT.",
    ),
]

#: One end of a validity: a moment, open, or by the product's rule.
Side = datetime | Literal["always"] | None


def open_store() -> Store:
    """Open the store named by the settings."""
    from calib_store.store import Store
    from deployments.settings.all_settings import Settings

    return Store.open(Settings())


def acting_user(author: str | None) -> str:
    """Return the name of the acting user."""
    return author or user_name()


def side(text: str | None, option: str) -> Side:
    """Return one end of a validity, from a time, ``always``, or nothing."""
    if text is not None and text.strip().lower() == "always":
        return "always"
    return moment(text, option)


def validity(product: Product) -> str:
    """Return a product's validity as text."""
    if product.validity is None:
        return "-"
    if product.validity == (None, None):
        return "always"
    start, end = (cell(moment) if moment else "always" for moment in product.validity)
    return f"{start} to {end} UT" if product.validity[1] else f"{start} UT to always"


def thing(what: Product | Frame) -> str:
    """Return the name of a product or frame with its id."""
    from calib_store.model.records import Product

    if isinstance(what, Product):
        return what.name_and_id
    return f"raw frame {what.name} ({what.sha256[:12]})"


def making_again(name: str, products: Sequence[Product]) -> str:
    """Return the commands that make again what was made with a bad product or frame.

    Mosaics are made from stacks, not from raw frames: they are combined again after their stacks.

    Parameters
    ----------
    name
        The bad product or frame, as the user named it.
    products
        Those made with it.
    """
    from imaging.kinds import MOSAIC

    targets = dict.fromkeys(one.facts.get("target") for one in products if one.kind == MOSAIC.name)
    commands = [f"nirflow stack --target {quote(str(target))}" for target in targets]
    if any(one.kind != MOSAIC.name for one in products):
        commands.insert(0, f"nirflow reduce --affected-by {name}")
    return ", then ".join(commands)


def as_json(product: Product) -> dict[str, Any]:
    """Return a product as JSON, including its status as displayed."""
    return {**product.model_dump(mode="json"), "tier": product.tier.name.lower(), "serves": serves(product)}


def edge_as_json(edge: LineageEdge) -> dict[str, Any]:
    """Return one step of a lineage as JSON."""
    return {
        "depth": edge.depth,
        "product": str(edge.product_id),
        "role": edge.role,
        "name": edge.name,
        "frame": edge.frame_sha256,
        "input": str(edge.input_product_id) if edge.input_product_id else None,
        "checksum": edge.checksum or None,
    }

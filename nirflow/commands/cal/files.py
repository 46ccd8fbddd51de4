"""``nirflow cal add``, ``get``, ``export`` and ``import``: products in and out of the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from imaging.errors import NirflowError
from imaging.kinds import ProductKind
from imaging.printable import printable
from nirflow.commands.cal.naming import (
    Author,
    Json,
    ProductName,
    as_json,
    open_store,
    person,
)
from nirflow.console.output import say
from nirflow.console.tables import plural, print_json
from nirflow.exits import Exit, UsageError

if TYPE_CHECKING:
    from calib_store.model.records import Product


def add(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Products of nirflow or DRAGONS: .fits, .gz, .bz2.")
    ],
    kind: Annotated[
        ProductKind | None,
        typer.Option("--kind", help="What they are, where their headers do not tell."),
    ] = None,
    any_shape: Annotated[
        bool, typer.Option("--any-shape", help="Take calibrations of any shape: small simulated ones, parts.")
    ] = False,
    author: Author = None,
    json: Json = False,
) -> None:
    """Add products made elsewhere; each is checked first. Exit code 4 where one was refused.

    Inputs that a product names (LINEAGE of nirflow, PROVENANCE and IMCMBnnn of DRAGONS) are tied to the frames
    and products of this store. The software, its version and the time are those of the file.
    """
    from calib_store.exchange.adopt import adopt

    added: list[Product] = []
    refused: list[tuple[Path, NirflowError]] = []
    with open_store() as store:
        for file in files:
            try:
                added.append(adopt(store, file, kind=kind, shape=_wanted(any_shape), author=person(author)))
            except NirflowError as problem:
                refused.append((file, problem))
    if json:
        told = [{"file": f, "reason": str(error)} for f, error in refused]
        print_json({"added": [as_json(product) for product in added], "refused": told})
    else:
        for product in added:
            say(f"{product.name}: {product.kind} {product.short_id}, {product.state}")
            for reason in (product.gate or {}).get("reasons", ()) if product.doubtful else ():
                say(f"{product.name}: {reason}.", style="yellow", err=True)
    for file, error in refused:
        text = str(error) if printable(file.name) in str(error) else f"{file.name}: {error}"
        say(text, style="red", err=True)
    if refused:
        raise typer.Exit(Exit.PARTIAL if added else Exit.FAILED)


def _wanted(any_shape: bool) -> Literal["detector"] | None:
    """Return the shape that a calibration must have: that of its detector, or any."""
    return None if any_shape else "detector"


def get(
    product: ProductName,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR_OR_FILE", help="Folder, or name of the copy.")
    ] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Copy a product's file out of the store, checked against its checksum."""
    with open_store() as store:
        found = store.get(product)
        folder = out.is_dir() or out.suffix != ".fits"  # a folder that is not there yet is made
        target = out / found.name if folder else out
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not overwrite:
            raise UsageError(f"{target} is there already.", remedy="Name another file, or add --overwrite.")
        written = store.export_file(found, target)
    say(written)


def export(
    products: Annotated[
        list[str], typer.Argument(metavar="ID", help="Products: file names, ids or first digits.")
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR_OR_TAR", help="A new folder, or a new file .tar or .tar.gz.")
    ],
    json: Json = False,
) -> None:
    """Write products, with all that they were made from, for another store.

    The calibrations go along with their files, the raw frames as what is known of them, without pixels.
    """
    from calib_store.exchange.transfer import export as write

    with open_store() as store:
        manifest = write(store, [store.get(name) for name in products], to)
    if json:
        print_json(
            {"to": to, "products": [p.name for p in manifest.products], "frames": len(manifest.frames)}
        )
        return
    for product in manifest.products:
        say(f"{product.kind}: {product.name}")
    frames = plural(len(manifest.frames), "raw frame")
    say(f"{plural(len(manifest.products), 'product')} and what is known of {frames}: {to}")


def import_(
    source: Annotated[Path, typer.Argument(metavar="DIR_OR_TAR", help="What `nirflow cal export` wrote.")],
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="It comes from a store of your own, or of somebody you trust: take over its decisions, raw frames and "
            "recipe keys.",
        ),
    ] = False,
    any_shape: Annotated[
        bool, typer.Option("--any-shape", help="Take calibrations of any shape: small simulated ones, parts.")
    ] = False,
    author: Author = None,
    json: Json = False,
) -> None:
    """Take products that another store exported. All are checked first; where one is refused, none is taken.

    They serve where nothing else does until somebody certifies them here. What was decided about them there is shown
    and has no effect. With --trust they serve, and are used again, like products of this store, and what was decided
    there since the last import holds here.
    """
    from calib_store.exchange.transfer import import_products

    with open_store() as store:
        done = import_products(store, source, author=person(author), trust=trust, shape=_wanted(any_shape))
    if json:
        print_json(
            {
                "added": [as_json(product) for product in done.added],
                "known": [as_json(product) for product in done.known],
                "frames": done.frames, "changed": done.changed, "proposed": done.proposed,
                "remarks": done.remarks,
            }
        )  # fmt: skip
        return
    for word, products in (("added", done.added), ("known", done.known)):
        for product in products:
            say(f"{word}: {product.kind} {product.name_and_id}")
    for change in done.changed:
        say(f"changed: {change}")
    for proposal in done.proposed:
        say(f"proposed: {proposal}")
    for remark in done.remarks:
        say(remark, style="yellow", err=True)
    added, frames = plural(len(done.added), "product"), plural(done.frames, "raw frame")
    say(f"{added} added, {len(done.known)} known; {frames} new.")
    if done.added and not trust:
        say(
            "They serve only where nothing else does, and decisions of the other store have no effect. To vouch for "
            f"one: nirflow cal certify ID. To take everything over: nirflow cal import --trust {source}",
            err=True,
        )

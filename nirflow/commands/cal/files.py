"""``nirflow cal add``, ``get``, ``export`` and ``import``: products in and out of the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from imaging.errors import NirflowError
from imaging.kinds import ProductKind
from imaging.listed import counted
from imaging.printable import printable
from nirflow.commands.cal.naming import (
    Author,
    Json,
    ProductName,
    acting_user,
    as_json,
    open_store,
)
from nirflow.console.output import print_lines
from nirflow.console.tables import print_json
from nirflow.exits import Exit, UsageError

if TYPE_CHECKING:
    from calib_store.model.records import Product


def add(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Products of nirflow or DRAGONS: .fits, .gz, .bz2.")
    ],
    kind: Annotated[
        ProductKind | None,
        typer.Option("--kind", help="Their kind, if their headers do not record it."),
    ] = None,
    any_shape: Annotated[
        bool,
        typer.Option("--any-shape", help="Accept calibrations of any shape: small simulated ones, parts."),
    ] = False,
    author: Author = None,
    json: Json = False,
) -> None:
    """Add products made elsewhere; each is checked first. Exit code 4 if one was refused.

    Inputs that a product names (LINEAGE of nirflow, PROVENANCE and IMCMBnnn of DRAGONS) are linked to the
    frames and products of this store. Software, version and time are taken from the file.
    """
    from calib_store.exchange.adopt import adopt

    added: list[Product] = []
    refused: list[tuple[Path, NirflowError]] = []
    with open_store() as store:
        for file in files:
            try:
                added.append(
                    adopt(store, file, kind=kind, shape=_wanted(any_shape), author=acting_user(author))
                )
            except NirflowError as problem:
                refused.append((file, problem))
    if json:
        refusals = [{"file": f, "reason": str(error)} for f, error in refused]
        print_json({"added": [as_json(product) for product in added], "refused": refusals})
    else:
        for product in added:
            print_lines(f"{product.name}: {product.kind} {product.short_id}, {product.state}")
            for reason in (product.gate or {}).get("reasons", ()) if product.doubtful else ():
                print_lines(f"{product.name}: {reason}.", style="yellow", err=True)
    for file, error in refused:
        text = str(error) if printable(file.name) in str(error) else f"{file.name}: {error}"
        print_lines(text, style="red", err=True)
    if refused:
        raise typer.Exit(Exit.PARTIAL if added else Exit.FAILED)


def _wanted(any_shape: bool) -> Literal["detector"] | None:
    """Return the shape required of a calibration: that of its detector, or None for any."""
    return None if any_shape else "detector"


def get(
    product: ProductName,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR_OR_FILE", help="Folder, or name of the copy.")
    ] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Copy a product's file from the store, verified by its checksum."""
    with open_store() as store:
        found = store.get(product)
        folder = out.is_dir() or out.suffix != ".fits"  # a missing folder is created
        target = out / found.name if folder else out
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not overwrite:
            raise UsageError(f"{target} already exists.", remedy="Name another file, or add --overwrite.")
        written = store.export_file(found, target)
    print_lines(written)


def export(
    products: Annotated[
        list[str], typer.Argument(metavar="ID", help="Products: file names, ids or first digits.")
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR_OR_TAR", help="A new folder, or a new file .tar or .tar.gz.")
    ],
    json: Json = False,
) -> None:
    """Export products, with everything they were made from, for another store.

    Calibrations are exported with their files, raw frames as records without pixels.
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
        print_lines(f"{product.kind}: {product.name}")
    frames = counted(len(manifest.frames), "raw frame")
    print_lines(f"{counted(len(manifest.products), 'product')} and the records of {frames}: {to}")


def import_(
    source: Annotated[Path, typer.Argument(metavar="DIR_OR_TAR", help="What `nirflow cal export` wrote.")],
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="The export comes from your own store or one that you trust: adopt its decisions, raw frames and "
            "recipe keys.",
        ),
    ] = False,
    any_shape: Annotated[
        bool,
        typer.Option("--any-shape", help="Accept calibrations of any shape: small simulated ones, parts."),
    ] = False,
    author: Author = None,
    json: Json = False,
) -> None:
    """Import products that another store exported. All are checked first; if one is refused, none is
    imported.

    They are used only as a last resort until somebody certifies them here. Decisions of the other store about
    them are shown but have no effect. With --trust they are used and reused like products of this store, and
    decisions made there since the last import apply here.
    """
    from calib_store.exchange.transfer import import_products

    with open_store() as store:
        done = import_products(
            store, source, author=acting_user(author), trust=trust, shape=_wanted(any_shape)
        )
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
    for outcome, products in (("added", done.added), ("known", done.known)):
        for product in products:
            print_lines(f"{outcome}: {product.kind} {product.name_and_id}")
    for change in done.changed:
        print_lines(f"changed: {change}")
    for proposal in done.proposed:
        print_lines(f"proposed: {proposal}")
    for remark in done.remarks:
        print_lines(remark, style="yellow", err=True)
    added, frames = counted(len(done.added), "product"), counted(done.frames, "raw frame")
    print_lines(f"{added} added, {len(done.known)} known; {frames} new.")
    if done.added and not trust:
        print_lines(
            "They are used only as a last resort, and decisions of the other store have no effect. To certify "
            f"one: nirflow cal certify ID. To adopt everything: nirflow cal import --trust {source}",
            err=True,
        )

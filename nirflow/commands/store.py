"""``nirflow cal``: what the calibration store holds; products in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from imaging.errors import NirflowError
from nirflow.exits import Exit, UsageError
from nirflow.tables import Column, cell, console, print_json, print_table

if TYPE_CHECKING:
    from calib_store.records import LineageEdge, Product
    from calib_store.store import Store

app = typer.Typer(
    help="The calibration store: list, show, add and get darks, flats, masks and images.",
    no_args_is_help=True,
)

ProductName = Annotated[
    str,
    typer.Argument(metavar="ID", help="A product's file name, or its id, sha256 or first digits of one."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

#: As many digits of an id as tell products apart in practice.
_ID_DIGITS = 8
#: Facts of the configuration that a product serves, in the order in which a table tells them.
_SERVES = (
    ("filter_id", "{}"), ("exposure_time", "{:g} s"), ("read_pairs", "{} reads"), ("coadds", "{} coadds"),
)  # fmt: skip


@app.command("list")
def list_products(
    kind: Annotated[
        Literal["dark", "bpm", "flat", "image"] | None, typer.Option("--kind", help="Only this kind.")
    ] = None,
    status: Annotated[
        Literal["candidate", "certified", "rejected", "superseded"] | None,
        typer.Option("--status", help="Only of this status."),
    ] = None,
    json: Json = False,
) -> None:
    """List the products, newest first. Exit code 3 where there is none."""
    with _store() as store:
        products = store.products(kind=kind, status=status)
    if json:
        print_json(list(products))
    elif products:
        rows = [
            [
                str(product.id)[:_ID_DIGITS], product.kind, product.name, serves(product), product.status,
                f"{product.span[0]:%Y-%m-%d}", f"{product.made_at:%Y-%m-%d %H:%M}",
            ]
            for product in products
        ]  # fmt: skip
        columns = [
            Column("id", style="bold"), Column("kind"), Column("name", fold=True),
            Column("serves", fold=True), Column("status"), Column("taken"), Column("made, UT"),
        ]  # fmt: skip
        print_table(columns, rows)
    else:
        typer.echo("The store holds no such product.", err=True)
    if not products:
        raise typer.Exit(Exit.NOTHING)


@app.command()
def show(product: ProductName, json: Json = False) -> None:
    """Show one product: what it serves, from what it was made, how good it is, where its file is."""
    with _store() as store:
        found = store.get(product)
        edges = store.lineage(found).edges
    if json:
        print_json({"product": found, "lineage": [edge_as_json(edge) for edge in edges]})
        return
    _print_product(found)
    _print_inputs(found, edges)


@app.command()
def add(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Products of nirflow or DRAGONS: .fits, .gz, .bz2.")
    ],
    kind: Annotated[
        Literal["dark", "bpm", "flat", "image"] | None,
        typer.Option("--kind", help="What they are, where their headers do not tell."),
    ] = None,
    json: Json = False,
) -> None:
    """Add products made elsewhere; each is checked first. Exit code 4 where one was refused."""
    from calib_store.adopt import adopt

    added: list[Product] = []
    refused: list[tuple[Path, NirflowError]] = []
    with _store() as store:
        for file in files:
            try:
                added.append(adopt(store, file, kind=kind))
            except NirflowError as problem:
                refused.append((file, problem))
    if json:
        print_json({"added": added, "refused": [{"file": f, "reason": str(error)} for f, error in refused]})
    else:
        for product in added:
            typer.echo(f"{product.name}: {product.kind} {str(product.id)[:_ID_DIGITS]}, {product.status}")
    for file, error in refused:
        told = str(error) if file.name in str(error) else f"{file.name}: {error}"
        console(stderr=True).print(told, style="red", markup=False)
    if refused:
        raise typer.Exit(Exit.PARTIAL if added else Exit.FAILED)


@app.command()
def get(
    product: ProductName,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR_OR_FILE", help="Folder, or name of the copy.")
    ] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Copy a product's file out of the store, checked against its checksum."""
    with _store() as store:
        found = store.get(product)
        folder = out.is_dir() or out.suffix != ".fits"  # a folder that is not there yet is made
        target = out / found.name if folder else out
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not overwrite:
            raise UsageError(f"{target} is there already.", remedy="Name another file, or add --overwrite.")
        written = store.export_file(found, target)
    typer.echo(str(written))


def _store() -> Store:
    from calib_store.store import Store

    return Store.open()


def serves(product: Product) -> str:
    """The configuration that a product serves, in a few words; of an image, its own."""
    facts = product.keys or product.facts
    told = {key: form.format(facts[key]) for key, form in _SERVES if facts.get(key) not in (None, "")}
    if facts.get("coadds") == 1:
        told.pop("coadds")
    return ", ".join(told.values())


def edge_as_json(edge: LineageEdge) -> dict[str, Any]:
    """One step of a lineage as JSON."""
    return {
        "depth": edge.depth,
        "product": str(edge.product_id),
        "role": edge.role,
        "name": edge.name,
        "frame": edge.frame_sha256,
        "input": str(edge.input_product_id) if edge.input_product_id else None,
    }


def _print_product(product: Product) -> None:
    validity = "-"
    if product.validity is not None:
        validity = " to ".join(cell(moment) if moment else "always" for moment in product.validity)
    rows: list[list[object]] = [
        ["name", product.name], ["kind", product.kind], ["id", product.id], ["status", product.status],
        ["valid", validity], ["serves", serves(product)],
        ["inputs taken", f"{cell(product.span[0])} to {cell(product.span[1])}"],
        ["made, UT", product.made_at], ["by", product.software_version],
        ["algorithm", product.algorithm_version],
        ["flow run", product.flow_run_id], ["recipe", product.recipe_key], ["sha256", product.sha256],
        ["file", product.path], ["preview", product.preview],
    ]  # fmt: skip
    rows += [["damaged", "yes: its file is missing or is not what was stored"]] if product.damaged else []
    rows += [[f"metric {name}", value] for name, value in sorted(product.metrics.items())]
    print_table([Column("", style="bold"), Column("", fold=True)], rows)


def _print_inputs(product: Product, edges: tuple[LineageEdge, ...]) -> None:
    direct = [edge for edge in edges if edge.product_id == product.id]
    if not direct:
        return
    typer.echo()
    rows = [[edge.role, edge.name, "product" if edge.input_product_id else "raw frame"] for edge in direct]
    print_table([Column("role"), Column("made from", fold=True), Column("")], rows)
    frames = {edge.frame_sha256 for edge in edges if edge.frame_sha256}
    typer.echo(f"\n{len(frames)} raw frames in all generations.")

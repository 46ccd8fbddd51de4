"""``nirflow cal list``, ``lineage`` and ``affected``: the contents of the store and their relations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from calib_store.choice.serving import serves
from imaging.kinds import ProductKind
from nirflow.commands.cal.naming import (
    Json,
    ProductName,
    ProductOrFrame,
    as_json,
    edge_as_json,
    making_again,
    open_store,
)
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import Exit
from nirflow.moments import night as night_in

if TYPE_CHECKING:
    from datetime import date

    from calib_store.exchange.proposals import Proposal
    from calib_store.model.records import LineageEdge, Product
    from calib_store.store import Store
    from nirflow.expressions.language import Expression

_PAGE = 1000


def list_products(
    kind: Annotated[
        ProductKind | None,
        typer.Option("--kind", help="Only this kind."),
    ] = None,
    status: Annotated[
        Literal["candidate", "certified", "rejected", "superseded"] | None,
        typer.Option("--status", help="Only of this status."),
    ] = None,
    night: Annotated[
        str | None,
        typer.Option(
            "--night",
            metavar="NIGHT",
            help="Only with inputs of this night: 2013-11-21, the date at its end; it begins the afternoon "
            "before, at the local time that the instrument's table states.",
        ),
    ] = None,
    where: Annotated[
        str, typer.Option("--where", help="An expression: 'exposure_time == 120 and level > 100'.")
    ] = "",
    names: Annotated[
        bool,
        typer.Option("--names", help="List the names that expressions about products can use, and exit."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of products.")] = 1000,
    json: Json = False,
) -> None:
    """List the products, newest first. Exit code 3 if none matches.

    nirflow cal list --kind dark --where 'exposure_time == 120 and noise < 3'
    """
    if names:
        _print_names(json)
        return
    from calib_store.exchange import proposals

    expression = _expression(where)
    day = night_in(night, "--night") if night is not None else None
    with open_store() as store:
        products = []
        for product in _matching(store, kind, status, day, expression):
            products.append(product)
            if len(products) > limit:
                break
        more, products = len(products) > limit, products[:limit]
        proposed = store.database.read(lambda c: proposals.on_products(c, [one.id for one in products]))
    if json:
        print_json([as_json(one) | {"proposed": _proposed(proposed.get(one.id, ()))} for one in products])
    elif products:
        rows = [
            [
                product.short_id, product.kind, product.name, serves(product),
                _state(product, proposed.get(product.id, ())),
                f"{product.span[0]:%Y-%m-%d}", f"{product.made_at:%Y-%m-%d %H:%M}",
            ]
            for product in products
        ]  # fmt: skip
        columns = [
            Column("id", style="bold"), Column("kind"), Column("name"),
            Column("serves", fold=True), Column("status"), Column("taken"), Column("made, UT"),
        ]  # fmt: skip
        print_table(columns, rows)
        if more:
            print_lines(f"These are the {limit} newest; --limit shows more.", err=True)
    else:
        print_lines("The store has no such product.", err=True)
    if not products:
        raise typer.Exit(Exit.NOTHING)


def lineage(
    product: ProductName,
    full: Annotated[bool, typer.Option("--full", help="Name every raw frame.")] = False,
    json: Json = False,
) -> None:
    """Show the tree of everything that a product was made from, up to the raw frames."""
    with open_store() as store:
        found = store.get(product)
        edges = store.lineage(found).edges
    if json:
        print_json({"product": as_json(found), "lineage": [edge_as_json(edge) for edge in edges]})
        return
    print_lines(f"{found.name}  {found.kind} {found.short_id}")
    for line in _tree(found.id, edges, full, "", set()):
        print_lines(line)
    if not edges:
        print_lines("Its inputs are not known.")


def affected(name: ProductOrFrame, json: Json = False) -> None:
    """List everything that was made with a product or raw frame and must be redone if that is rejected.

    Exit code 3 if nothing was made with it.
    """
    from calib_store.curation.lookup import product_or_frame
    from calib_store.model.records import Product

    with open_store() as store:
        cause = product_or_frame(store, name)
        found = store.affected(cause)
    if json:
        print_json([as_json(product) for product in found])
    elif found:
        columns = [Column("id", style="bold"), Column("kind"), Column("name"), Column("status"),
                   Column("made, UT")]  # fmt: skip
        print_table(columns, [[p.short_id, p.kind, p.name, p.state, p.made_at] for p in found])
        bad = not cause.counts if isinstance(cause, Product) else cause.rejected is not None
        once = "This" if bad else f"Once {cause.name} is rejected, this"
        print_lines(
            "",
            f"{once} makes the valid ones again: {making_again(name, [p for p in found if p.counts] or found)}",
        )
    else:
        print_lines(f"Nothing was made with {cause.name}.", err=True)
    if not found:
        raise typer.Exit(Exit.NOTHING)


# Lists


def _proposed(proposed: Sequence[Proposal]) -> str | None:
    """Return the latest status proposed by another store."""
    return proposed[-1].status if proposed else None


def _state(product: Product, proposed: Sequence[Proposal]) -> str:
    status = _proposed(proposed)
    return product.state if status is None else f"{product.state} (elsewhere {status})"


def _expression(where: str) -> Expression | None:
    if not where:
        return None
    from nirflow.expressions.language import Expression
    from nirflow.expressions.product_names import product_names

    return Expression.parse(where, product_names())


def _matching(
    store: Store, kind: Any, status: Any, night: date | None, expression: Expression | None
) -> Iterator[Product]:
    from nirflow.expressions.product_names import product_lookup

    last = None
    while page := store.products(kind=kind, status=status, night=night, after=last, limit=_PAGE):
        for product in page:
            if expression is None or expression.evaluate(product_lookup(product)):
                yield product
        last = page[-1]


def _print_names(json: bool) -> None:
    from nirflow.expressions.product_names import product_names

    names = product_names()
    if json:
        print_json([{"name": n, "kind": one.kind.value, "meaning": one.meaning} for n, one in names.items()])
        return
    rows = [[name, one.kind.value, one.meaning] for name, one in names.items()]
    print_table([Column("name", style="bold"), Column("value"), Column("meaning", fold=True)], rows)


# Trees


def _tree(
    product: object, edges: Sequence[LineageEdge], full: bool, indent: str, shown: set[object]
) -> Iterator[str]:
    """Yield the lines of the tree below a product; raw frames with the same role share a line unless
    ``full``.

    A product that has already been shown is not expanded again.
    """
    shown.add(product)
    # An input of two products in the tree is found twice, at different depths.
    own = list({(e.role, e.name, e.checksum): e for e in edges if e.product_id == product}.values())
    lines: list[tuple[str, object]] = []
    for role in dict.fromkeys(edge.role for edge in own):
        of_role = [edge for edge in own if edge.role == role]
        raw = [edge.name for edge in of_role if edge.input_product_id is None]
        if raw and (full or len(raw) == 1):
            lines += [(f"{role}: {_leaf(edge)}", None) for edge in of_role if edge.input_product_id is None]
        elif raw:
            known = sum(edge.frame_sha256 is not None for edge in of_role)
            rest = "" if known == len(raw) else f", {len(raw) - known} not in this store"
            lines.append((f"{role}: {len(raw)} raw frames, {raw[0]} to {raw[-1]}{rest}", None))
        lines += [
            (f"{role}: {edge.name}  {str(edge.input_product_id)[:8]}", edge.input_product_id)
            for edge in of_role
            if edge.input_product_id is not None
        ]
    for number, (line, below) in enumerate(lines):
        last = number == len(lines) - 1
        again = below is not None and below in shown
        yield f"{indent}{'└─' if last else '├─'} {line}{', as above' if again else ''}"
        if below is not None and not again:
            yield from _tree(below, edges, full, indent + ("   " if last else "│  "), shown)


def _leaf(edge: LineageEdge) -> str:
    if edge.frame_sha256 is not None:
        return edge.name
    return f"{edge.name}, not in this store" + (f" ({edge.checksum})" if edge.checksum else "")

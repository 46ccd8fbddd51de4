"""``nirflow cal compare``, ``certify``, ``reject``, ``supersede``, ``reinstate``: users' decisions about
products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imaging.listed import listed
from nirflow.commands.cal.naming import (
    Author,
    Json,
    ProductName,
    ProductOrFrame,
    Side,
    acting_user,
    as_json,
    making_again,
    open_store,
    side,
    thing,
    validity,
)
from nirflow.console.output import print_lines
from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import Exit, UsageError
from nirflow.moments import is_date
from nirflow.moments import nights as nights_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from calib_store.model.records import Product

DespiteGate = Annotated[
    bool,
    typer.Option("--despite-gate", help="Certify it although it failed the comparison with a certified one."),
]
Reason = Annotated[str, typer.Option("--reason", help="The reason; it is kept in the product's history.")]


def compare(
    product: ProductName,
    with_: Annotated[
        str | None,
        typer.Option("--with", metavar="ID", help="The product to compare with. Default: the certified one."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="gate.PARAMETER=VALUE", help="A limit; see nirflow params gate. Repeatable."
        ),
    ] = None,
    record: Annotated[
        bool,
        typer.Option(
            "--record", help="Store the result: from now on it determines whether the product is doubtful."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Compare a dark, flat or mask, pixel by pixel, with the certified one nearest in time.

    Exit code 4 if it differs too much. The same comparison is made for each new product; `show` has its
    result. That result is void once the certified product is rejected or superseded; --record replaces it.
    """
    from calib_store.curation.compare import compare_products, record_comparison
    from imaging.calibrations.compare import GateParameters, meanings_of
    from nirflow.step_settings import resolve

    limits = resolve(settings or (), {"gate": GateParameters}).get("gate", GateParameters())
    assert isinstance(limits, GateParameters)
    with open_store() as store:
        found = store.get(product)
        other = store.get(with_) if with_ else None
        reference, done = compare_products(store, found, other, limits)
        if record:
            found = record_comparison(store, found, reference, done)
    if json:
        print_json(
            {
                "product": as_json(found), "reference": as_json(reference), "passed": done.passed,
                "figures": done.figures, "reasons": done.reasons,
            }
        )  # fmt: skip
    else:
        print_lines(
            f"{found.name_and_id} compared with {reference.name} ({reference.short_id}, {reference.status})"
        )
        meanings = meanings_of(found.kind)
        rows = [[name, value, meanings[name][1], meanings[name][0]] for name, value in done.figures.items()]
        print_table(
            [
                Column("figure", style="bold"),
                Column("value", "right"),
                Column("unit"),
                Column("meaning", fold=True),
            ],
            rows,
        )
        for reason in done.reasons:
            print_lines(f"Too different: {reason}.")
        print_lines("It is within the limits." if done.passed else "It is not within the limits.")
        if record:
            print_lines(
                f"Recorded: {found.name_and_id} is {'doubtful' if found.doubtful else 'not doubtful'}."
            )
    if not done.passed:
        raise typer.Exit(Exit.PARTIAL)


def certify(
    product: ProductName,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Valid from: 2013-11-21T03:00, UT, or always. A date alone means 00:00 UT. Default: by its rule.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TIME",
            help="Valid until (exclusive); written like --from. Default: by its rule.",
        ),
    ] = None,
    nights: Annotated[
        str | None,
        typer.Option(
            "--nights",
            "--night",
            metavar="NIGHT[..NIGHT]",
            help="Valid for these nights, both included: 2013-11-21, or 2013-11-21..2013-11-28. A night has the "
            "date at its end and begins the afternoon before, at the local time that the instrument's table states. "
            "In place of --from and --to.",
        ),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Divide the time with certified neighbours half-way between them."),
    ] = False,
    despite_gate: DespiteGate = False,
    reason: Reason = "inspected and good",
    author: Author = None,
    json: Json = False,
) -> None:
    """Certify a product: within its validity it is preferred to every candidate."""
    from calib_store.curation.certify import certify as certify_product
    from calib_store.curation.certify import changed_with

    sides = _sides(from_, to, nights)
    with open_store() as store:
        found = store.get(product)
        start, end = sides(found)
        done = certify_product(
            store, found, author=acting_user(author), reason=reason, start=start, end=end,
            take_over=take_over, despite_gate=despite_gate,
        )  # fmt: skip
        neighbours = changed_with(store, done) if take_over else ()
    if json:
        print_json({**as_json(done), "shared_with": [as_json(one) for one in neighbours]})
        return
    for one in (done, *neighbours):
        _print_status(one)
    if hint := _hint(from_, to, done):
        print_lines(hint, err=True)


def reject(name: ProductOrFrame, reason: Reason, author: Author = None, json: Json = False) -> None:
    """Reject a product or a raw frame: it is no longer used. The reason is recorded."""
    from calib_store.curation.certify import reject as reject_it
    from calib_store.curation.lookup import product_or_frame

    with open_store() as store:
        found = product_or_frame(store, name)
        done = reject_it(store, found, author=acting_user(author), reason=reason)
        hit = [product for product in store.affected(found) if product.counts]
    if json:
        print_json({"rejected": done, "affected": [as_json(product) for product in hit]})
        return
    print_lines(f"{thing(done)} is rejected.")
    if hit:
        print_lines(f"Made with it: {_names(hit)}. To make these again: {making_again(name, hit)}")


def supersede(
    product: ProductName,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="ID", help="The better one, which also takes over the validity."),
    ] = None,
    despite_gate: DespiteGate = False,
    reason: Reason = "a better one exists",
    author: Author = None,
    json: Json = False,
) -> None:
    """Supersede a product by a better one: it is no longer chosen."""
    from calib_store.curation.certify import supersede as supersede_it

    with open_store() as store:
        found, other = store.get(product), store.get(by) if by else None
        old, new = supersede_it(
            store, found, author=acting_user(author), reason=reason, by=other,
            despite_gate=despite_gate,
        )  # fmt: skip
    if json:
        print_json({"superseded": as_json(old), "by": as_json(new) if new else None})
        return
    _print_status(old)
    if new is not None:
        _print_status(new)
    elif found.validity is not None:
        print_lines(f"No {found.kind} of its configuration is certified any longer for {validity(found)}.")


def reinstate(name: ProductOrFrame, reason: Reason, author: Author = None, json: Json = False) -> None:
    """Make a rejected, superseded or certified product a candidate again, or a rejected frame usable.

    Products that were superseded because of it become valid again.
    """
    from calib_store.curation.certify import counting_again
    from calib_store.curation.certify import reinstate as reinstate_it
    from calib_store.curation.lookup import product_or_frame

    with open_store() as store:
        done = reinstate_it(store, product_or_frame(store, name), author=acting_user(author), reason=reason)
        again = counting_again(store, done)
    if json:
        print_json(done)
        return
    print_lines(f"{thing(done)} is {getattr(done, 'status', 'usable')} again.")
    for product in again:
        print_lines(f"{product.name_and_id} was superseded because of it and is valid again.")


def _names(products: Sequence[Product]) -> str:
    return listed((one.name_and_id for one in products), 5)


def _print_status(product: Product) -> None:
    valid = f", valid {validity(product)}" if product.validity is not None else ""
    print_lines(f"{product.name_and_id} is {product.status}{valid}.")


def _sides(from_: str | None, to: str | None, nights: str | None) -> Callable[[Product], tuple[Side, Side]]:
    """Return both ends of a product's validity, from moments or from nights at the site of its instrument."""
    if nights is None:
        both = side(from_, "--from"), side(to, "--to")
        return lambda _: both
    if from_ is not None or to is not None:
        raise UsageError(
            "--nights sets the beginning and end of the validity, and so do --from and --to.",
            remedy="Use either --nights, or --from and --to.",
        )
    first, last = nights_in(nights, "--nights")
    from calib_store.model.product_nights import site_of

    return lambda product: site_of(product.facts).validity_of(first, last)


def _hint(from_: str | None, to: str | None, product: Product) -> str:
    """Return an explanation of dates without a time, and how to name nights; empty if no date lacks a
    time.
    """
    given = [(option, text) for option, text in (("--from", from_), ("--to", to)) if text and is_date(text)]
    if not given:
        return ""
    explained = " and ".join(f"{option} {text} is 00:00 UT of that day" for option, text in given)
    from calib_store.model.product_nights import night_of, site_of

    begins = site_of(product.facts).begins(night_of(product.facts, product.span))
    return (
        f"Note: {explained}; nights of {product.facts.get('instrument', 'its instrument')} begin at {begins:%H:%M} UT. "
        f"To certify for complete nights: --nights {given[0][1]}..{given[-1][1] if len(given) > 1 else 'NIGHT'}"
    )

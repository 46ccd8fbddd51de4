"""``nirflow cal compare``, ``certify``, ``reject``, ``supersede``, ``reinstate``: what people say of products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nirflow.commands.cal.naming import (
    Author,
    Json,
    ProductName,
    ProductOrFrame,
    Side,
    as_json,
    open_store,
    person,
    side,
    thing,
    validity,
)
from nirflow.console.output import say
from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import Exit, UsageError
from nirflow.moments import interval_of, is_date
from nirflow.moments import nights as nights_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calib_store.model.records import Product

DespiteGate = Annotated[
    bool, typer.Option("--despite-gate", help="Although it failed the comparison with a certified one.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the log.")]


def compare(
    product: ProductName,
    with_: Annotated[
        str | None,
        typer.Option(
            "--with", metavar="ID", help="The product to compare with; the certified one without it."
        ),
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
            "--record", help="Keep the result: the product is doubtful or not by this comparison from now on."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Compare a dark, flat or mask, pixel by pixel, with the certified one nearest in time.

    Exit code 4 where it is too far off. The same is done when a product is made; `show` has what that gave. That is
    void when the certified one is rejected or superseded; with --record the comparison is made again.
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
        say(f"{found.name_and_id} beside {reference.name} ({reference.short_id}, {reference.status})")
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
            say(f"Too far off: {reason}.")
        say("It is within the limits." if done.passed else "It is not within the limits.")
        if record:
            say(f"Recorded: {found.name_and_id} is {'doubtful' if found.doubtful else 'not doubtful'}.")
    if not done.passed:
        raise typer.Exit(Exit.PARTIAL)


def certify(
    product: ProductName,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Valid from: 2013-11-21T03:00, UT, or always. A date alone is 00:00 UT. Default: by its rule.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TIME",
            help="Valid until, excluded: as --from. Default: by its rule.",
        ),
    ] = None,
    nights: Annotated[
        str | None,
        typer.Option(
            "--nights",
            "--night",
            metavar="NIGHT[..NIGHT]",
            help="Valid for these nights, both included: 2013-11-21, or 2013-11-21..2013-11-28. A night has the UT "
            "date at its end and begins at 14:00 UT the day before. In place of --from and --to.",
        ),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Share the time with certified neighbours, half-way between them."),
    ] = False,
    despite_gate: DespiteGate = False,
    reason: Reason = "looked at and good",
    author: Author = None,
    json: Json = False,
) -> None:
    """Certify a product: inside its validity it comes before every candidate."""
    from calib_store.curation.certify import certify as certify_product
    from calib_store.curation.certify import changed_with

    start, end = _sides(from_, to, nights)
    with open_store() as store:
        done = certify_product(
            store, store.get(product), author=person(author), reason=reason, start=start, end=end,
            take_over=take_over, despite_gate=despite_gate,
        )  # fmt: skip
        neighbours = changed_with(store, done) if take_over else ()
    if json:
        print_json({**as_json(done), "shared_with": [as_json(one) for one in neighbours]})
        return
    for one in (done, *neighbours):
        _tell(one)
    if hint := _hint(from_, to):
        say(hint, err=True)


def reject(name: ProductOrFrame, reason: Reason, author: Author = None, json: Json = False) -> None:
    """Reject a product or a raw frame: it is not used any more, and said why."""
    from calib_store.curation.certify import reject as reject_it
    from calib_store.curation.lookup import product_or_frame

    with open_store() as store:
        found = product_or_frame(store, name)
        done = reject_it(store, found, author=person(author), reason=reason)
        hit = [product for product in store.affected(found) if product.counts]
    if json:
        print_json({"rejected": done, "affected": [as_json(product) for product in hit]})
        return
    say(f"{thing(done)} is rejected.")
    if hit:
        say(f"Made with it: {_listed(hit)}. To make that again: nirflow reduce --affected-by {name}")


def supersede(
    product: ProductName,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="ID", help="The better one; it takes over the validity too."),
    ] = None,
    despite_gate: DespiteGate = False,
    reason: Reason = "there is a better one",
    author: Author = None,
    json: Json = False,
) -> None:
    """Have a product not be chosen any more, because there is a better one."""
    from calib_store.curation.certify import supersede as supersede_it

    with open_store() as store:
        found, other = store.get(product), store.get(by) if by else None
        old, new = supersede_it(
            store, found, author=person(author), reason=reason, by=other,
            despite_gate=despite_gate,
        )  # fmt: skip
    if json:
        print_json({"superseded": as_json(old), "by": as_json(new) if new else None})
        return
    _tell(old)
    if new is not None:
        _tell(new)
    elif found.validity is not None:
        say(f"No {found.kind} of its configuration is certified any more for {validity(found)}.")


def reinstate(name: ProductOrFrame, reason: Reason, author: Author = None, json: Json = False) -> None:
    """Make a rejected, superseded or certified product a candidate again, or a rejected frame usable.

    What was superseded because of it counts again.
    """
    from calib_store.curation.certify import counting_again
    from calib_store.curation.certify import reinstate as reinstate_it
    from calib_store.curation.lookup import product_or_frame

    with open_store() as store:
        done = reinstate_it(store, product_or_frame(store, name), author=person(author), reason=reason)
        again = counting_again(store, done)
    if json:
        print_json(done)
        return
    say(f"{thing(done)} is {getattr(done, 'status', 'usable')} again.")
    for product in again:
        say(f"{product.name_and_id} was superseded because of it and counts again.")


def _listed(products: Sequence[Product]) -> str:
    return ", ".join(p.name_and_id for p in products[:5]) + (", ..." if len(products) > 5 else "")


def _tell(product: Product) -> None:
    told = f", valid {validity(product)}" if product.validity is not None else ""
    say(f"{product.name_and_id} is {product.status}{told}.")


def _sides(from_: str | None, to: str | None, nights: str | None) -> tuple[Side, Side]:
    """The two sides of a validity, from moments or from nights."""
    if nights is None:
        return side(from_, "--from"), side(to, "--to")
    if from_ is not None or to is not None:
        raise UsageError(
            "--nights says when the validity begins and when it ends, and so do --from and --to.",
            remedy="Give --nights, or --from and --to.",
        )
    return interval_of(*nights_in(nights, "--nights"))


def _hint(from_: str | None, to: str | None) -> str:
    """What a date alone means, and how whole nights are named; empty where no date stands alone."""
    given = [(option, text) for option, text in (("--from", from_), ("--to", to)) if text and is_date(text)]
    if not given:
        return ""
    meant = " and ".join(f"{option} {text} is 00:00 UT of that day" for option, text in given)
    return (
        f"Note: {meant}, in the middle of a night; nights begin at 14:00 UT. "
        f"To certify for complete nights: --nights {given[0][1]}..{given[-1][1] if len(given) > 1 else 'NIGHT'}"
    )

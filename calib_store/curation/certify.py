"""Decisions of users about products and frames: certified for a time, rejected, superseded or reinstated."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, select

from calib_store.curation.sharing import GATE, free_of_users, joined, share
from calib_store.model.records import IMPORTED, Frame, Product, StatusChange, Tier
from calib_store.rules.rules import Rule
from calib_store.store import Store
from calib_store.tables import products, rulebook, status, variants
from calib_store.tables.locks import changes_alone, keep
from calib_store.tables.schema import products as table
from calib_store.tables.status import Validity
from calib_store.tables.status_log import history
from calib_store.tables.tiers import rejected_ancestors
from imaging.errors import StoreError

#: The name by which a user requests a validity without a limit on one side.
Always = Literal["always"]


def certify(
    store: Store,
    product: Product,
    *,
    author: str,
    reason: str,
    start: datetime | Always | None = None,
    end: datetime | Always | None = None,
    take_over: bool = False,
    despite_gate: bool = False,
) -> Product:
    """Certify a product: within its validity it takes precedence over every candidate.

    Parameters
    ----------
    author, reason
        Who certifies it, and why.
    start, end
        Its validity, from (included) to (excluded); default: the limit of its rule (for most, 90 days from the
        middle of its inputs).
    take_over
        Share the time with neighbours that are certified for part of it: each is valid up to half-way between the
        two. A neighbour that is left without time is superseded.
    despite_gate
        Certify it even if it failed the comparison with a certified product.

    Returns
    -------
    Product
        The certified product.

    Raises
    ------
    StoreError
        If its file is damaged, it failed the comparison, it or one of its ancestors was rejected, or another product
        of its configuration is certified for part of the time (enforced by the database among concurrent requests).
    """
    store.file_of(product)  # a damaged product is not certified
    change = uuid.uuid4()

    def act(connection: Connection) -> None:
        keep(connection)  # the rules
        current = _locked(connection, product)
        if current.status == "rejected":
            raise _was(connection, current, "Reinstate it first: nirflow cal reinstate")
        _refuse_tainted(connection, current, "certified")
        _refuse_doubtful(current, despite_gate)
        alike = status.alike(connection, current)
        rule = rulebook.active_rules(connection).named(current.rule or "")
        assert rule is not None  # a product with a configuration has a rule
        validity = _validity(current, rule, start, end)
        if take_over:
            validity = share(connection, current, alike, validity, author)
        if current.provisional == IMPORTED:
            products.confirm(connection, current)  # a user of this store approves it
        status.set_status(
            connection, current, "certified", author=author, reason=reason, validity=validity, change=change
        )

    store.database.run(act)
    return store.get(product.id)


def certify_compared(store: Store, product: Product, reason: str) -> Product:
    """Certify a product that passed its comparison, for a run with `GateParameters.certify`.

    It shares the time with neighbours that were certified in the same way. Certifications by users are not changed:
    they give up no time, and a product whose time a user has given to another one stays a candidate.

    Raises
    ------
    StoreError
        If it is provisional, doubtful, or made with other parameters or rejected inputs; if a user has certified
        another product for its time; and as for `certify`.
    """
    store.file_of(product)
    change = uuid.uuid4()

    def act(connection: Connection) -> None:
        keep(connection)
        current = _locked(connection, product)
        _refuse_unlike(connection, current)
        rule = rulebook.active_rules(connection).named(current.rule or "")
        assert rule is not None
        alike = status.alike(connection, current)
        validity = free_of_users(connection, current, alike, _validity(current, rule, None, None))
        validity = share(connection, current, alike, validity, GATE)
        status.set_status(
            connection, current, "certified", author=GATE, reason=reason, validity=validity, change=change
        )

    store.database.run(act)
    return store.get(product.id)


def _refuse_unlike(connection: Connection, product: Product) -> None:
    """Refuse to certify automatically a product that only a user should certify."""
    _refuse_tainted(connection, product, "certified")
    why = None
    if product.provisional is not None:
        why = f"is provisional: {product.provisional}"
    elif product.doubtful:
        why = f"is doubtful: {'; '.join((product.gate or {}).get('reasons', ()))}"
    else:
        made_with = variants.parameters_of(connection, [product.variant]).get(product.variant, {})
        others = variants.differences(made_with, variants.default_parameters())
        if others:
            why = f"was made with other parameters than the defaults ({'; '.join(others)})"
    if why is not None:
        raise StoreError(
            f"{product.name_and_id} {why}.",
            remedy=f"Examine it, and certify it yourself: nirflow cal certify {product.short_id}",
        )


def changed_with(store: Store, product: Product) -> tuple[Product, ...]:
    """Return the other products that a product took time from, or superseded, when its status last changed."""

    def ask(connection: Connection) -> tuple[Product, ...]:
        return products.with_ids(connection, status.changed_with(connection, product.id))

    return store.database.read(ask)


def reject(store: Store, what: Product | Frame, *, author: str, reason: str) -> Product | Frame:
    """Reject a product or a raw frame, so that it is no longer used.

    A rejected product serves no frame and is not made again from the same inputs; a rejected frame is left out of
    reductions. Products made with it are unchanged: `Store.affected` returns them.
    """
    if not reason.strip():
        raise StoreError("A rejection needs a reason.", remedy="Give one: --reason 'light leak'.")
    if isinstance(what, Frame):
        return store.frames.set_status(what, "rejected", author=author, reason=reason)
    return store.set_status(what, "rejected", author=author, reason=reason)


def supersede(
    store: Store,
    product: Product,
    *,
    author: str,
    reason: str,
    by: Product | None = None,
    despite_gate: bool = False,
) -> tuple[Product, Product | None]:
    """Supersede a product, so that it is no longer chosen because there is a better one.

    Parameters
    ----------
    by
        The better one, of the same configuration. If ``product`` was certified, the better one takes over its
        validity at the same time, in addition to its own.
    despite_gate
        Proceed even if the better one failed the comparison with a certified product.

    Returns
    -------
    tuple
        Both products after the change.

    Raises
    ------
    StoreError
        If the better one serves other frames, its file is damaged, it or one of its ancestors was rejected, it is
        superseded itself, it failed the comparison, or its validity is not contiguous with that of ``product``.
    """
    change, other = uuid.uuid4(), uuid.uuid4()
    if by is not None:
        store.file_of(by)  # a damaged product supersedes nothing

    def act(connection: Connection) -> None:
        keep(connection)  # the rules
        current = _locked(connection, product)
        if current.status == "rejected":
            raise _was(connection, current, "To restore it: nirflow cal reinstate")
        better = _locked(connection, by) if by is not None else None
        if better is not None:
            if better.id == current.id or (better.kind, better.keys) != (current.kind, current.keys):
                why = "serves other frames" if better.id != current.id else "is the same product"
                raise StoreError(
                    f"{better.name_and_id} cannot supersede {current.name_and_id}: it {why}.",
                    remedy=f"Name another {current.kind} of the same configuration with --by.",
                )
            if not better.counts:
                raise _was(connection, better, "Name another with --by, or: nirflow cal reinstate")
            _refuse_tainted(connection, better, f"put in the place of {current.name}")
            _refuse_doubtful(better, despite_gate)
        status.set_status(
            connection, current, "superseded", author=author, reason=reason, change=change,
            by=better.id if better is not None else None,
        )  # fmt: skip
        if better is not None and current.validity is not None:
            status.set_status(
                connection, better, "certified", author=author,
                reason=f"in the place of {current.name}: {reason}", validity=joined(current, better), change=other,
            )  # fmt: skip

    store.database.run(act)
    return store.get(product.id), store.get(by.id) if by is not None else None


def reinstate(store: Store, what: Product | Frame, *, author: str, reason: str) -> Product | Frame:
    """Make a rejected, superseded or certified product a candidate again, or a rejected frame usable.

    Products that were superseded because of it are restored: see `counting_again`.
    """
    if isinstance(what, Frame):
        if what.rejected is None:
            raise StoreError(f"{what.name} is not rejected.", remedy="See `nirflow cal show`.")
        return store.frames.set_status(what, "usable", author=author, reason=reason)
    if what.status == "candidate":
        raise StoreError(
            f"{what.name_and_id} is already a candidate.",
            remedy=f"For another product of that name, give its id: nirflow cal list --where 'name ~ \"{what.name}\"'",
        )
    return store.set_status(what, "candidate", author=author, reason=reason)


def identity(what: Product | Frame) -> str:
    """Return the identity of a product or frame in the status log: the id of a product, the sha256 of a frame."""
    return what.sha256 if isinstance(what, Frame) else str(what.id)


def counting_again(store: Store, what: Product | Frame) -> tuple[Product, ...]:
    """Return products made with this one that were superseded when it was rejected, and count again."""

    def ask(connection: Connection) -> tuple[Product, ...]:
        ids = status.changed_because(connection, identity(what), "candidate")
        return products.with_ids(connection, ids)

    made_with = {product.id for product in store.affected(what)}
    return tuple(product for product in store.database.read(ask) if product.id in made_with)


def status_as_of(store: Store, product: Product, moment: datetime | None) -> StatusChange:
    """Return the latest decision about a product, now or at an earlier time (before it was made: the first one)."""
    log = store.history(product)
    past = [change for change in log if moment is None or change.changed_at <= moment]
    return (past or list(log[:1]))[-1]


def _locked(connection: Connection, product: Product) -> Product:
    """Return the current product, locked against other changes until the transaction ends."""
    changes_alone(connection)
    connection.execute(select(table.c.id).where(table.c.id == product.id).with_for_update())
    (current,) = products.with_ids(connection, [product.id])
    return current


def _was(connection: Connection, product: Product, remedy: str) -> StoreError:
    last = history(connection, product.id)[-1]
    return StoreError(
        f"{product.name} ({product.id}) was {product.status} by {last.author} on {last.changed_at:%Y-%m-%d %H:%M}: "
        f"{last.reason}.",
        remedy=f"{remedy} {product.short_id}",
    )


def _refuse_tainted(connection: Connection, product: Product, what: str) -> None:
    if product.tier is Tier.TAINTED:
        first = rejected_ancestors(connection, product.id)[0]
        raise StoreError(
            f"{product.name_and_id} cannot be {what}: it was made with {first.name}, and {first}.",
            remedy=f"Make it again without: nirflow reduce --affected-by {first.name}",
        )


def _refuse_doubtful(product: Product, despite_gate: bool) -> None:
    if product.doubtful and not despite_gate:
        gate = product.gate or {}
        raise StoreError(
            f"{product.name} {_failure(gate)}: {'; '.join(gate.get('reasons', ()))}.",
            remedy="Examine it (nirflow cal compare); to certify it nevertheless, add --despite-gate.",
        )


def _failure(gate: Mapping[str, Any]) -> str:
    reference = gate.get("reference")
    if not reference:
        return "is doubtful"
    return f"failed the comparison with {reference.get('name')} ({str(reference.get('id'))[:8]})"


def _validity(
    product: Product, rule: Rule, start: datetime | Always | None, end: datetime | Always | None
) -> Validity:
    first, last = rule.validity(product.middle)
    given_start = None if start == "always" else start
    given_end = None if end == "always" else end
    return (first if start is None else given_start, last if end is None else given_end)

"""What counts again when something is reinstated, and what stays superseded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from calib_store.certify import identity, reinstate, reject, supersede
from calib_store.records import InputRef, Product
from calib_store.restore import restore_superseded
from calib_store.store import Store

Add = Callable[..., Product]


@pytest.fixture
def made_with(add: Add) -> Callable[..., Product]:
    """Add an image that was made with some products."""

    def make(*products: Product, kind: str = "image") -> Product:
        return add(kind, inputs=[InputRef(one.kind, one.id) for one in products])

    return make


def redone(store: Store, cause: Product, old: Product, new: Product) -> None:
    """Supersede a product as a redo does."""
    store.set_status(old, "superseded", author="run", reason="made again", by=new.id, because=identity(cause))


def state(store: Store, *products: Product) -> list[str]:
    return [store.get(one.id).status for one in products]


def test_old_and_new_change_places(store: Store, add: Add, made_with: Callable[..., Product]) -> None:
    dark, mask = add(), add("bpm")
    flat, again = made_with(mask, kind="flat"), add("flat")
    old = made_with(dark, flat)
    new = made_with(dark, again)
    reject(store, mask, author="Ana", reason="bad")
    redone(store, mask, flat, again)
    redone(store, mask, old, new)
    reinstate(store, store.get(mask.id), author="Ana", reason="good")
    restored = restore_superseded(store, store.get(mask.id))
    assert [(one.id, other.id if other else None) for one, other in restored] == [
        (flat.id, again.id), (old.id, new.id)
    ]  # fmt: skip
    assert state(store, flat, old, again, new) == ["candidate"] * 2 + ["superseded"] * 2
    assert restore_superseded(store, store.get(mask.id)) == ()


def test_with_another_bad_ancestor_it_stays_superseded(
    store: Store, add: Add, made_with: Callable[..., Product]
) -> None:
    dark, flat = add(), add("flat")
    old, new = made_with(dark, flat), made_with(flat)
    reject(store, dark, author="Ana", reason="bad")
    redone(store, dark, old, new)
    reject(store, flat, author="Ana", reason="bad too")
    reinstate(store, store.get(dark.id), author="Ana", reason="good")
    assert restore_superseded(store, store.get(dark.id)) == ()
    assert state(store, old, new) == ["superseded", "candidate"]


def test_what_a_user_superseded_stays_so(store: Store, add: Add, made_with: Callable[..., Product]) -> None:
    dark = add()
    old = made_with(dark)
    reject(store, dark, author="Ana", reason="bad")
    redone(store, dark, old, add("image"))
    supersede(store, store.get(old.id), author="Ana", reason="blurred")
    reinstate(store, store.get(dark.id), author="Ana", reason="good")
    assert restore_superseded(store, store.get(dark.id)) == ()
    assert state(store, old) == ["superseded"]

"""Which new product takes the place of an old one, and which does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

from calib_store.certify import reject
from calib_store.records import FrameRecord, InputRef, Product, recipe_key
from calib_store.store import Store
from flows.redo import Redo, redo_of, replace_old
from flows.report import Kept
from tasks.references import ProductRef

Add = Callable[..., Product]
WHO = {"author": "Ana", "reason": "light leak"}


def ref(product: Product) -> ProductRef:
    return ProductRef.model_validate(
        {name: getattr(product, name) for name in ("kind", "name", "sha256", "recipe_key")}
        | {"id": str(product.id)}
    )


@pytest.fixture
def darks(store: Store, record: Callable[..., FrameRecord]) -> list[FrameRecord]:
    """Ten raw darks that the store knows."""
    frames = [record(f"dark{n}.fits") for n in range(10)]
    store.frames.ingest(frames)
    return frames


@pytest.fixture
def dark(add: Add) -> Callable[..., Product]:
    """Add a master of some darks, of a variant of its own: the store's own rules then replace none of them."""

    def make(taken: Sequence[FrameRecord], **changes: object) -> Product:
        inputs = [InputRef("dark", one.sha256) for one in taken]
        key = recipe_key("dark", [one.sha256 for one in taken], {"changed": sorted(changes)}, "1")
        own = {"dark": {"low": len(taken)}}
        return add(name=f"d_{len(taken)}.fits", inputs=inputs, recipe_key=key, parameters=own, **changes)

    return make


def rejected(store: Store, frame: FrameRecord) -> Redo:
    """Reject a frame; what has to be made again."""
    reject(store, store.frames.with_sha256s([frame.sha256])[frame.sha256], **WHO)
    return redo_of(store, frame.sha256[:12])


def replaced(
    store: Store, redo: Redo, made: Iterable[tuple[Product, Product]]
) -> tuple[dict[str, str], Sequence[Kept]]:
    done, kept = replace_old(store, redo, [(old, ref(new)) for old, new in made])
    return {one.old.split()[0]: one.new.split()[0] for one in done}, kept


def test_what_contains_the_same_frames_without_the_rejected_takes_the_place(
    store: Store, darks: list[FrameRecord], dark: Callable[..., Product]
) -> None:
    old, new = dark(darks), dark(darks[:9])
    redo = rejected(store, darks[9])
    assert [product.id for product in redo.products] == [old.id]
    assert replaced(store, redo, [(old, new)]) == ({"d_10.fits": "d_9.fits"}, ())
    last = store.history(old)[-1]
    assert (last.status, last.by, last.because) == ("superseded", new.id, darks[9].sha256)


def test_what_lacks_a_usable_frame_takes_nobodys_place(
    store: Store, darks: list[FrameRecord], dark: Callable[..., Product]
) -> None:
    old, new = dark(darks), dark(darks[:3])
    redo = rejected(store, darks[9])
    done, (kept,) = replaced(store, redo, [(old, new)])
    assert done == {}
    assert kept.reason == (
        f"{new.told}, made in its place, is without {', '.join(f'dark{n}.fits' for n in range(3, 9))}"
    )
    assert f"nirflow cal supersede {old.short_id} --by {new.short_id}" in kept.remedy
    assert store.get(old.id).status == "candidate"


def test_a_frame_that_was_given_and_left_out_is_not_contained(
    store: Store, darks: list[FrameRecord], dark: Callable[..., Product]
) -> None:
    without = {"metrics": {"left_out": [{"name": "dark4.fits", "reason": "no stars", "remedy": ""}]}}
    whole, part = dark(darks), dark(darks[:9], **without)
    redo = rejected(store, darks[9])
    done, (kept,) = replaced(store, redo, [(whole, part)])
    assert done == {}
    assert kept.reason.endswith("is without dark4.fits")


def test_what_an_old_one_left_out_is_not_asked_of_a_new_one(
    store: Store, darks: list[FrameRecord], dark: Callable[..., Product]
) -> None:
    without = {"metrics": {"left_out": [{"name": "dark4.fits", "reason": "no stars", "remedy": ""}]}}
    old, new = dark(darks, **without), dark([*darks[:4], *darks[5:9]])
    redo = rejected(store, darks[9])
    assert replaced(store, redo, [(old, new)]) == ({"d_10.fits": "d_8.fits"}, ())


def test_a_product_whose_status_was_changed_meanwhile_stays_so(
    store: Store, darks: list[FrameRecord], dark: Callable[..., Product]
) -> None:
    old, new = dark(darks), dark(darks[:9])
    redo = rejected(store, darks[9])
    reject(store, old, author="Ben", reason="a bad set")
    assert replaced(store, redo, [(old, new)]) == ({}, ())
    assert store.history(old)[-1].author == "Ben"


def test_the_same_frame_in_another_role_is_not_contained(
    store: Store, add: Add, darks: list[FrameRecord]
) -> None:
    def flat(name: str, on: list[FrameRecord], off: list[FrameRecord]) -> Product:
        inputs = [InputRef("lamp_on", f.sha256) for f in on] + [InputRef("lamp_off", f.sha256) for f in off]
        return add("flat", name=name, inputs=inputs, parameters={"flat": {"low": len(on)}})

    old, new = flat("old.fits", darks[:5], darks[5:]), flat("new.fits", darks[:9], [])
    done, (kept,) = replaced(store, rejected(store, darks[9]), [(old, new)])
    assert done == {}
    assert kept.reason.endswith("dark5.fits, dark6.fits, dark7.fits, dark8.fits")

"""Which new product replaces an old one, and which does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

from calib_store.curation.certify import reject, supersede
from calib_store.model.records import FrameRecord, InputRef, Product, recipe_key
from calib_store.store import Store
from flows.run.redo import Redo, frames_lost, redo_of, replace_old
from flows.run.report import Kept
from tasks.support.references import Note, ProductRef, Survey

Add = Callable[..., Product]
WHO = {"author": "Ana", "reason": "light leak"}


def ref(product: Product) -> ProductRef:
    return ProductRef.model_validate(
        {name: getattr(product, name) for name in ("kind", "name", "sha256", "recipe_key")}
        | {"id": str(product.id)}
    )


@pytest.fixture
def frames(store: Store, record: Callable[..., FrameRecord]) -> list[FrameRecord]:
    """Return ten raw frames recorded in the store."""
    known = [record(f"on{n}.fits") for n in range(10)]
    store.frames.ingest(known)
    return known


@pytest.fixture
def mask(add: Add) -> Product:
    """Return a mask that will be superseded."""
    return add("bpm")


@pytest.fixture
def flat(add: Add) -> Callable[..., Product]:
    """Add a flat made from these frames and with these masks."""

    def make(
        on: Sequence[FrameRecord], *masks: Product, off: Sequence[FrameRecord] = (), **changes: object
    ) -> Product:
        inputs = [InputRef("lamp_on", f.sha256) for f in on] + [InputRef("lamp_off", f.sha256) for f in off]
        inputs += [InputRef("bpm", one.id) for one in masks]
        key = recipe_key("flat", [f"{ref.role}:{ref.source}" for ref in inputs], {"n": sorted(changes)}, "1")
        name = f"f_{len(on)}_{len(masks)}.fits"
        return add("flat", name=name, inputs=inputs, recipe_key=key, **changes)

    return make


def redo_without(store: Store, mask: Product) -> Redo:
    """Supersede a mask and return what has to be made again."""
    supersede(store, mask, **WHO)
    return redo_of(store, str(mask.id))


def replaced(
    store: Store, redo: Redo, made: Iterable[tuple[Product, Product]]
) -> tuple[dict[str, str], Sequence[Kept]]:
    done, kept = replace_old(store, redo, [(old, ref(new)) for old, new in made])
    return {one.old.split()[0]: one.new.split()[0] for one in done}, kept


def test_a_product_with_the_same_frames_replaces_the_old_one(
    store: Store, frames: list[FrameRecord], mask: Product, flat: Callable[..., Product]
) -> None:
    old = flat(frames, mask)
    redo = redo_without(store, mask)
    assert [product.id for product in redo.products] == [old.id]
    new = flat(frames)
    assert replaced(store, redo, [(old, new)]) == ({"f_10_1.fits": "f_10_0.fits"}, ())
    last = store.history(old)[-1]
    assert (last.status, last.by, last.because) == ("superseded", new.id, str(mask.id))


def test_a_frame_rejected_since_is_not_required(
    store: Store, frames: list[FrameRecord], mask: Product, flat: Callable[..., Product]
) -> None:
    """The store itself supersedes a product made with the rejected one when its replacement is added."""
    old = flat(frames, mask)
    redo = redo_without(store, mask)
    reject(store, store.frames.with_sha256s([frames[9].sha256])[frames[9].sha256], **WHO)
    new = flat(frames[:9])
    assert frames_lost(store, old, new) == ()
    assert replaced(store, redo, [(old, new)]) == ({}, ())
    assert [store.get(one.id).status for one in (old, new)] == ["superseded", "candidate"]


def test_a_product_that_lacks_a_usable_frame_replaces_nothing(
    store: Store, frames: list[FrameRecord], mask: Product, flat: Callable[..., Product]
) -> None:
    old = flat(frames, mask)
    redo = redo_without(store, mask)
    new = flat(frames[:3])
    done, (kept,) = replaced(store, redo, [(old, new)])
    assert done == {}
    listed = ", ".join(f"on{n}.fits" for n in range(3, 10))
    assert kept.reason == f"{new.name_and_id}, made in its place, is without {listed}"
    assert f"nirflow cal supersede {old.short_id} --by {new.short_id}" in kept.remedy
    assert store.get(old.id).status == "candidate"


def test_a_frame_that_was_left_out_is_not_contained(
    store: Store, frames: list[FrameRecord], mask: Product, flat: Callable[..., Product]
) -> None:
    without = {"metrics": {"left_out": [{"name": "on4.fits", "reason": "no light", "remedy": ""}]}}
    old, part = flat(frames, mask), flat(frames, **without)
    done, (kept,) = replaced(store, redo_without(store, mask), [(old, part)])
    assert done == {}
    assert kept.reason.endswith("is without on4.fits")


def test_a_status_changed_meanwhile_is_kept(
    store: Store, frames: list[FrameRecord], mask: Product, flat: Callable[..., Product]
) -> None:
    old = flat(frames, mask)
    redo = redo_without(store, mask)
    new = flat(frames)
    reject(store, old, author="Ben", reason="a bad set")
    assert replaced(store, redo, [(old, new)]) == ({}, ())
    assert store.history(old)[-1].author == "Ben"


def test_an_invalid_product_replaces_nothing(
    store: Store, frames: list[FrameRecord], mask: Product, flat: Callable[..., Product]
) -> None:
    old, new = flat(frames, mask), flat(frames)
    redo = redo_without(store, mask)
    reject(store, new, author="Ben", reason="a bad set")
    done, (kept,) = replaced(store, redo, [(old, new)])
    assert done == {}
    assert kept.reason.endswith("is rejected")


def test_the_same_frame_in_another_role_is_not_contained(
    store: Store, frames: list[FrameRecord], mask: Product, flat: Callable[..., Product]
) -> None:
    old, new = flat(frames[:8], mask, off=frames[8:]), flat(frames)
    done, (kept,) = replaced(store, redo_without(store, mask), [(old, new)])
    assert done == {}
    assert kept.reason.endswith("is without on8.fits, on9.fits")


def test_the_notes_on_its_frames_are_reported(
    store: Store, frames: list[FrameRecord], mask: Product, flat: Callable[..., Product]
) -> None:
    flat(frames[:5], mask)
    redo = redo_without(store, mask)
    notes = [Note(name=name, text="CHECKSUM disagrees") for name in ("on1.fits", "on2.fits.gz", "on7.fits")]
    assert redo.limited(Survey(notes=tuple(notes))).notes == tuple(notes[:2])

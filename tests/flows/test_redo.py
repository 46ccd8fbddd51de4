"""Which new product takes the place of which old one."""

from __future__ import annotations

from collections.abc import Callable

from calib_store.certify import reject
from calib_store.records import FrameRecord, InputRef, Product
from calib_store.store import Store
from flows.redo import Redo, redo_of, replace_old
from tasks.references import ProductRef

Add = Callable[..., Product]
WHO = {"author": "Ana", "reason": "light leak"}


def ref(product: Product) -> ProductRef:
    return ProductRef.model_validate(
        {name: getattr(product, name) for name in ("kind", "name", "sha256", "recipe_key")}
        | {"id": str(product.id)}
    )


def redo(store: Store, frame: FrameRecord, made: tuple[Product, ...]) -> tuple[Redo, dict[str, str]]:
    """Reject a frame, and let the products come in the place of those that were made with it."""
    cause = store.frames.with_sha256s([frame.sha256])[frame.sha256]
    reject(store, cause, **WHO)
    todo = redo_of(store, f"{frame.sha256[:12]}")
    told = replace_old(store, todo, [ref(one) for one in made])
    return todo, {one.old.split()[0]: one.new.split()[0] for one in told}


def test_flats_that_share_their_darks_keep_apart(
    store: Store, add: Add, record: Callable[..., FrameRecord]
) -> None:
    """Of two bands with the same darks each new flat takes the place of its own band's, whatever the order."""
    off = {band: [record(f"{band}{n}.fits") for n in range(3)] for band in ("Ks", "K-red")}
    darks = [record(f"dark{n}.fits") for n in range(3)]
    store.frames.ingest([*off["Ks"], *off["K-red"], *darks])

    def flat(band: str, taken: list[FrameRecord]) -> Product:
        inputs = [InputRef("lamp_off", one.sha256) for one in off[band]]
        return add(
            "flat",
            name=f"{band}_{len(taken)}.fits",
            inputs=[*inputs, *(InputRef("dark", d.sha256) for d in taken)],
        )

    for band in off:
        flat(band, darks)
    made = flat("K-red", darks[:2]), flat("Ks", darks[:2])
    todo, replaced = redo(store, darks[2], made)
    assert {one.name for one in todo.products} == {"Ks_3.fits", "K-red_3.fits"}
    assert replaced == {"Ks_3.fits": "Ks_2.fits", "K-red_3.fits": "K-red_2.fits"}
    assert {store.history(one)[-1].by for one in todo.products} == {one.id for one in made}


def test_what_was_not_made_again_keeps_its_place(
    store: Store, add: Add, record: Callable[..., FrameRecord]
) -> None:
    """Two lamp-on groups share their lamp-offs, and only one flat came out this time."""
    on = {name: [record(f"{name}{n}.fits") for n in range(2)] for name in ("a", "b")}
    off = [record(f"off{n}.fits") for n in range(2)]
    store.frames.ingest([*on["a"], *on["b"], *off])

    def flat(name: str, taken: list[FrameRecord]) -> Product:
        inputs = [InputRef("lamp_on", one.sha256) for one in on[name]]
        return add(
            "flat",
            name=f"{name}_{len(taken)}.fits",
            inputs=[*inputs, *(InputRef("lamp_off", o.sha256) for o in taken)],
        )

    flat("a", off)
    other = flat("b", off)
    _, replaced = redo(store, off[1], (flat("a", off[:1]),))
    assert replaced == {"a_2.fits": "a_1.fits"}
    assert store.get(other.id).status == "candidate"


def test_the_nearest_of_several_takes_the_place(
    store: Store, add: Add, record: Callable[..., FrameRecord]
) -> None:
    """One sequence of darks comes back in two parts: the larger one follows."""
    darks = [record(f"dark{n}.fits") for n in range(6)]
    store.frames.ingest(darks)

    def dark(taken: list[FrameRecord]) -> Product:
        return add(name=f"d_{len(taken)}.fits", inputs=[InputRef("dark", one.sha256) for one in taken])

    dark(darks)
    _, replaced = redo(store, darks[5], (dark(darks[:2]), dark(darks[2:5])))
    assert replaced == {"d_6.fits": "d_3.fits"}

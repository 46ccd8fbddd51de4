"""What counts again when something that seemed bad is reinstated."""

from __future__ import annotations

from functools import partial

from calib_store.certify import superseded_because, take_back
from calib_store.records import Frame, Product
from calib_store.store import Store
from calib_store.supersets import is_sound


def restore_superseded(
    store: Store, reinstated: Product | Frame
) -> tuple[tuple[Product, Product | None], ...]:
    """Have the products count again that runs superseded because of what is reinstated now.

    One that was made from something else that is rejected or in quarantine stays superseded, and so does one whose
    status was changed by a user since.

    Returns
    -------
    tuple
        Each product that counts again, after those that it was made from, and the one that it supersedes in turn.
    """
    waiting = {product.id for product in superseded_because(store, reinstated)}
    restored = []
    for product in store.affected(reinstated):
        if product.id not in waiting or not store.database.read(partial(is_sound, product=product)):
            continue
        now, other = take_back(store, product)
        if now.counts:
            restored.append((now, other))
    return tuple(restored)

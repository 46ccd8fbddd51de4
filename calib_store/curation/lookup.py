"""A product or a raw frame by the name that a person gives it."""

from __future__ import annotations

from calib_store.model.records import Frame, Product
from calib_store.store import Store
from calib_store.tables.products import meant
from imaging.errors import StoreError


def product_or_frame(store: Store, name: str) -> Product | Frame:
    """The one product or raw frame of that file name, id, or first digits of an id or sha256.

    Raises
    ------
    StoreError
        Where there is none, or several.
    """
    products, frames = meant(store.named(name), name), store.frames.named(name)
    if len(products) + len(frames) == 0:
        raise StoreError(
            f"The store has no product and no raw frame {name!r}.",
            remedy="See `nirflow cal list` for products (6 digits of an id or more); a frame is known once it was "
            "given to `nirflow reduce` or lay in a watched folder.",
        )
    if len(products) + len(frames) > 1:
        several = [f"product {product.described}" for product in products[:5]]
        several += [f"frame {f.sha256[:12]} ({f.name})" for f in frames[:5]]
        raise StoreError(f"{name!r} may be any of: {', '.join(several)}.", remedy="Give the id or sha256.")
    return products[0] if products else frames[0]

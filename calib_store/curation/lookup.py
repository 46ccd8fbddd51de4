"""Look-up of a product or raw frame by the name that a user enters."""

from __future__ import annotations

from calib_store.model.records import Frame, Product
from calib_store.store import Store
from calib_store.tables.products import resolved
from imaging.errors import StoreError
from imaging.listed import listed


def product_or_frame(store: Store, name: str) -> Product | Frame:
    """Return the product or raw frame with that file name, id, or first digits of an id or sha256.

    Raises
    ------
    StoreError
        If there is no such product or frame, or more than one.
    """
    products, frames = resolved(store.named(name), name), store.frames.named(name)
    if len(products) + len(frames) == 0:
        raise StoreError(
            f"The store has no product and no raw frame {name!r}.",
            remedy="See `nirflow cal list` for products (6 digits of an id or more); a frame is known once it has been "
            "given to `nirflow reduce` or found in a watched folder.",
        )
    if len(products) + len(frames) > 1:
        several = [f"product {product.described}" for product in products]
        several += [f"frame {f.sha256[:12]} ({f.name})" for f in frames]
        raise StoreError(f"{name!r} may be any of: {listed(several)}.", remedy="Give the id or sha256.")
    return products[0] if products else frames[0]

"""What a stack was made of: its raw frames and where they are, and its calibrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from calib_store.model.records import Frame, Product
from calib_store.store import Store
from calib_store.tables import frames as frame_rows
from imaging.kinds import CALIBRATION_KINDS, KINDS


@dataclass(frozen=True)
class Ingredients:
    """What a stack was made of.

    Attributes
    ----------
    stack
        The stack.
    frames
        The raw frames that were stacked, in order.
    calibrations
        Kind to calibration.
    """

    stack: Product
    frames: tuple[Frame, ...]
    calibrations: Mapping[str, Product]


def ingredients(store: Store, stack: Product) -> Ingredients:
    """Return the raw frames and calibrations of a stack.

    Raises
    ------
    StoreError
        If a calibration is no longer in the store.
    """
    inputs = store.inputs_of(stack)
    stacked = [str(one.source) for one in inputs if one.role == "science"]
    known = store.database.read(lambda connection: frame_rows.with_sha256s(connection, stacked))
    products: dict[str, Product] = {
        one.role: store.get(one.source)
        for one in inputs
        if one.role in CALIBRATION_KINDS and isinstance(one.source, UUID)
    }
    return Ingredients(stack, tuple(known[sha256] for sha256 in stacked if sha256 in known), products)


def stacks_of(store: Store, product: Product) -> tuple[Product, ...]:
    """Return a product itself if it is a stack, otherwise the stacks in use that were made with it."""
    if KINDS[product.kind].is_stack:
        return (product,)
    return tuple(one for one in store.affected(product) if KINDS[one.kind].is_stack and one.counts)

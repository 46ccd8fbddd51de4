"""Whether a product of the store can serve as a calibration at all, checked whenever one is chosen."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Final

from calib_store.model.records import Product
from calib_store.store import Store
from imaging.calibrations.sanity import check_usable
from imaging.errors import FrameError
from imaging.products.product_file import ProductFile

#: Number of files whose result is cached.
_MOST: Final = 4096
_results: OrderedDict[tuple[str, str], str | None] = OrderedDict()
_lock = Lock()


def why_unusable(store: Store, product: Product) -> str | None:
    """Return why the pixels of a product cannot serve as a calibration, or None where they can.

    The checks are those of `imaging.calibrations.sanity`: level, usable share, finite values, positive variances. The
    pixels are read once per process; the result is cached by the file's sha256.

    Parameters
    ----------
    store
        The store.
    product
        A product of the store.

    Returns
    -------
    str or None
        A sentence with the plane, the value found and the value expected.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    key = (product.sha256, product.kind)
    with _lock:
        if key in _results:
            _results.move_to_end(key)
            return _results[key]
    reason: str | None = None
    try:
        with ProductFile(store.file_of(product)) as file:
            check_usable(product.kind, file, product.name)
    except FrameError as error:
        reason = error.message
    with _lock:
        _results[key] = reason
        while len(_results) > _MOST:
            _results.popitem(last=False)
    return reason

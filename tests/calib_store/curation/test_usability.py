from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from astropy.io import fits

from calib_store.curation import usability
from calib_store.curation.usability import why_unusable
from calib_store.model.records import Product
from calib_store.store import Store
from imaging.errors import StoreError

HEADER = {
    "INSTRUME": "F2", "OBSTYPE": "FLAT", "OBJECT": "GCALflat", "EXPTIME": 20.0, "COADDS": 1, "LNRS": 1, "NREADS": 1,
    "FILTER1": "Y_G0811", "LYOT": "f/16_G5830", "DETID": "109", "DATE-OBS": "2013-11-21", "UTSTART": "03:00:00.0",
    "PROCFLAT": "2026-01-01T00:00:00",
}  # fmt: skip


@pytest.fixture
def flat(add: Callable[..., Product]) -> Callable[[float], Product]:
    """Add a flat of one level."""

    def make(level: float) -> Product:
        primary = fits.PrimaryHDU()
        primary.header.update(HEADER)
        planes = {"SCI": np.full((8, 8), level, np.float32), "VAR": np.ones((8, 8), np.float32)}
        planes["DQ"] = np.zeros((8, 8), np.uint16)
        file = io.BytesIO()
        fits.HDUList([primary, *(fits.ImageHDU(p, name=n) for n, p in planes.items())]).writeto(file)
        return add("flat", content=file.getvalue())

    return make


def test_products_that_can_serve_and_products_that_cannot(
    store: Store, flat: Callable[[float], Product]
) -> None:
    assert why_unusable(store, flat(1.0)) is None
    useless = flat(0.0)
    assert why_unusable(store, useless) == (
        f"{useless.name}: plane SCI: the median of the usable pixels is 0, expected 0.5 to 2."
    )


def test_the_pixels_are_read_once(
    store: Store, flat: Callable[[float], Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    product = flat(-1.0)
    first = why_unusable(store, product)
    assert first is not None

    def fail(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(usability, "check_usable", fail)
    assert why_unusable(store, product) == first
    with pytest.raises(AssertionError, match="read again"):
        why_unusable(store, flat(2.0))


def test_a_missing_file_is_an_error_instead(store: Store, flat: Callable[[float], Product]) -> None:
    product = flat(1.5)
    flat(1.0)  # something exists, so the folder does too
    store.objects.path(product.sha256).unlink()  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="missing or damaged"):
        why_unusable(store, product)

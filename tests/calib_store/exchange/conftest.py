"""Fixtures for tests of the exchange of products."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from astropy.io import fits
from clean_databases import CleanDatabases
from foreign_products import KEY, PRIMARY
from pydantic import SecretStr
from transfers import OF, WHO, product_bytes

from calib_store.curation.certify import certify, reject
from calib_store.exchange.recipe_check import ADOPTED, adopted_key, adopted_parameters, expected_key
from calib_store.model.records import Foreign, InputRef
from calib_store.model.settings import StoreSettings
from calib_store.store import Store


@pytest.fixture
def other(postgres_address, clean_databases: CleanDatabases, tmp_path: Path) -> Iterator[Store]:
    """Another store, empty."""
    with clean_databases.one() as name:
        url = postgres_address.url(name).set(username="test_pipeline").render_as_string(hide_password=False)
        with Store.open(StoreSettings(data_dir=tmp_path / "other", database_url=SecretStr(url))) as opened:
            yield opened


@pytest.fixture
def add_complete(add, store: Store, record, facts):
    """Add a product with a file and inputs that a store accepts."""
    serial = itertools.count()

    def make(kind: str = "dark", **changes):
        number = next(serial)
        raw = record(f"in{number}.fits", facts=facts(kind=OF[kind]))
        store.frames.ingest([raw])
        given = {"content": product_bytes(kind, number=number), "inputs": [InputRef(OF[kind], raw.sha256)]}
        given |= changes
        keys = {
            ref.source: store.get(ref.source).recipe_key
            for ref in given["inputs"]
            if isinstance(ref.source, UUID)
        }
        key = expected_key(kind, "", given["inputs"], keys, {"low": 3.0}, "1", metrics={}, provisional=None)
        return add(kind, **({"recipe_key": key} if key is not None else {}) | given)

    return make


@pytest.fixture
def family(store: Store, add_complete, record, facts):
    """A dark, a flat with a mask, and an image with all of them and a foreign input."""
    raws = [record(f"R{n}.fits", facts=facts(kind=kind)) for n, kind in enumerate(["flat", "dark", "object"])]
    store.frames.ingest([*raws, record("Q.fits", facts=None, quarantine="cut short")])
    bpm = add_complete(
        "bpm", inputs=[InputRef("lamp_on", raws[0].sha256)], gate={"passed": True, "reasons": []}
    )
    dark = add_complete("dark", inputs=[InputRef("dark", raws[1].sha256)], metrics={"level": 104.5})
    flat = add_complete("flat", inputs=[InputRef("lamp_on", raws[0].sha256), InputRef("bpm", bpm.id)])
    pixels = product_bytes("image", number=99)
    image = add_complete(
        "image", content=pixels, algorithm_version=ADOPTED, parameters=adopted_parameters("image"),
        recipe_key=adopted_key("image", hashlib.sha256(pixels).hexdigest()),
        inputs=[
            InputRef("science", raws[2].sha256), InputRef("dark", dark.id), InputRef("bpm", bpm.id),
            InputRef("flat", flat.id), InputRef("input", Foreign("elsewhere.fits", "md5:abc")),
        ],
    )  # fmt: skip
    certify(store, dark, **WHO)
    reject(store, bpm, **WHO)
    reject(store, store.frames.get("R1"), author="Bo", reason="satellite")
    return {kind: store.get(one.id) for kind, one in
            (("bpm", bpm), ("dark", dark), ("flat", flat), ("image", image))}  # fmt: skip


@pytest.fixture
def make(tmp_path: Path):
    def write(
        mark: str | None = "PROCDARK", *, name: str = "S1_dark.fits", planes=("SCI", "VAR", "DQ"), **cards
    ) -> Path:
        primary = fits.PrimaryHDU()
        for keyword, value in {**PRIMARY, **cards}.items():
            if value is not None:
                primary.header[keyword] = value
        if mark:
            primary.header[mark] = "2026-01-01T00:00:00"
        level = 0 if mark == "BPMASK" else 1
        pixels = {"SCI": np.full((8, 8), level, np.float32), "VAR": np.ones((8, 8), np.float32)}
        good = np.zeros((8, 8), np.uint16)
        images = [fits.ImageHDU(pixels.get(plane, good).copy(), name=plane) for plane in planes]
        path = tmp_path / name
        fits.HDUList([primary, *images]).writeto(path)
        return path

    return write


@pytest.fixture
def own(store: Store, make, add, facts):
    """A dark of the store's own, and where its copy in the output folder is."""
    copy = make(name="S9_dark.fits", NFKEY=KEY)
    return add(content=copy.read_bytes(), name="S9_dark.fits", recipe_key=KEY), copy

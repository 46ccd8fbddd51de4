"""Fixtures of this folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_products import INPUTS, KEY, STAMP, Write

from imaging.frames.facts import FrameFacts
from imaging.header import Header
from imaging.pixels.image import BadPixelMask, Image, Reason
from imaging.products.header_cards import Record
from imaging.products.product_file import (
    product_name,
    write_product,
)
from imaging.products.product_tables import HistoryRow, LineageRow, ProvenanceRow, stamped


@pytest.fixture
def image(extension: Header, primary: Header) -> Image:
    rng = np.random.default_rng(5)
    sci = rng.normal(100, 5, (40, 48)).astype(np.float32)
    dq = rng.choice(np.array([0, 0, 0, 1, 2, 4, 64, 32768], np.uint16), (40, 48))
    return Image(sci, np.abs(sci) + 25, dq, extension, primary)


@pytest.fixture
def mask(extension: Header, primary: Header) -> BadPixelMask:
    reasons = np.zeros((40, 48), np.uint8)
    reasons[3, 7], reasons[39, 47], reasons[0, 1] = Reason.HOT, Reason.LOW_RESPONSE, 3
    return BadPixelMask.from_reasons(reasons, header=extension, primary=primary)


@pytest.fixture
def record(facts: FrameFacts) -> Record:
    return Record(
        kind="image", facts=facts, inputs=INPUTS, stamp=STAMP, version="0.1.0", key=KEY,
        calibrations={"dark": "S1_dark.fits", "flat": "S2_flat.fits", "bpm": "S3_bpm.fits"},
        calibration_keys={"dark": "d" * 64, "flat": "f" * 64, "bpm": "b" * 64},
        cards={"TEXPTIME": (360.0, "[s] total exposure"), "airmass": 1.25},
        extension_cards={"NOISCORR": (1.4, "Noise correlation")},
        history=[HistoryRow("dark", '{"low": 3.0}', stamped(STAMP), stamped(STAMP))],
        provenance=[ProvenanceRow(stamped(STAMP), name, "d" * 32, "nirflow") for name in INPUTS],
        lineage=[LineageRow(name, "a" * 64, "science", "S20131121S0075_image.fits") for name in INPUTS],
    )  # fmt: skip


@pytest.fixture
def write(tmp_path: Path, image: Image, record: Record) -> Write:
    """Write the image as a product of a kind: ``write("dark", what=..., stamp=...)``."""

    def product(
        kind: str = "image", what: Image | BadPixelMask = image, name: str = "", **changed: Any
    ) -> Path:
        path = tmp_path / (name or product_name(INPUTS[0], kind))  # type: ignore[arg-type]
        extra = {k: changed.pop(k) for k in ("object_mask", "tables") if k in changed}
        write_product(path, what, dataclasses.replace(record, kind=kind, **changed), **extra)
        return path

    return product

"""Circles lie on the sources of the preview."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest

from flows.page import overlay
from flows.page.model import NightProduct
from imaging.errors import StoreError
from imaging.products.captions import Caption, caption_of
from imaging.products.preview import write_preview

PRODUCT = NightProduct(uuid.UUID(int=1), "image", "S1_image.fits", "FIELD Y", "", "")
COLUMNS = [("X_IMAGE", "f8"), ("Y_IMAGE", "f8"), ("MAG_AUTO", "f4"), ("REF_NUMBER", "i4"), ("REF_MAG", "f4")]


def table(*rows: tuple[float, float, float, int, float]) -> np.ndarray:
    return np.array(list(rows), COLUMNS)


def made(
    monkeypatch: pytest.MonkeyPatch, found: np.ndarray | None, caption: Caption | None
) -> overlay.Overlay | None:
    monkeypatch.setattr(overlay, "stored_file", lambda store, product: Path("a.fits"))
    monkeypatch.setattr(overlay, "read_table", lambda path, name: found)
    return overlay.overlay_of(None, PRODUCT, caption)  # type: ignore[arg-type]


def test_circles_lie_on_the_sources_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    image = np.zeros((1000, 1400), np.float32)
    image[800:804, 300:304] = 1e4  # the centre of its pixels is 301.5, 801.5 from 0
    path = write_preview(tmp_path / "a.png", image)
    over = made(
        monkeypatch, table((302.5, 802.5, 17.125, 4, 17.25), (10, 20, 99, -999, -999)), caption_of(path)
    )
    assert over is not None
    with Image.open(path) as picture:
        assert (over.width, over.height) == picture.size == (700, 500)
        bright = np.argwhere(np.asarray(picture.convert("L")) == 255)
    star, other = over.circles
    assert (star.x, star.y) == pytest.approx(tuple(bright.mean(axis=0)[::-1] + 0.5), abs=0.6)
    assert (star.title, star.is_reference) == ("17.12 mag, catalogue 17.25", True)
    assert (other.title, other.is_reference) == ("no magnitude", False)
    assert over.references == 1


def test_without_a_table_or_a_picture_there_are_no_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    caption = Caption(shape=(100, 100), block=1)
    assert made(monkeypatch, None, caption) is None
    assert made(monkeypatch, table(), caption) is None
    assert made(monkeypatch, np.zeros(3, [("x", "f8")]), caption) is None
    assert made(monkeypatch, table((1, 1, 17, 1, 17)), None) is None

    def gone(*_: object) -> None:
        raise StoreError("damaged")

    monkeypatch.setattr(overlay, "stored_file", gone)
    assert overlay.overlay_of(None, PRODUCT, caption) is None  # type: ignore[arg-type]

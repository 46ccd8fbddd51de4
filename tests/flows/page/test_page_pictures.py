"""Pictures are made once, and again if damaged; a missing one has a reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from PIL import Image as Picture

from calib_store.model.records import FrameRecord, Product
from calib_store.store import Store
from flows.page.collect import collect_night
from flows.page.previews import show_product
from flows.page.thumbnails import make_thumbnails
from imaging.io.examine import last_change
from imaging.products.captions import notes_of
from imaging.products.preview import write_preview, write_thumbnail
from tasks.support.references import ProductRef


def test_a_thumbnail_is_small_upright_and_has_notes(tmp_path: Path) -> None:
    array = np.random.default_rng(1).normal(100, 5, (450, 300)).astype(np.float32)
    array[:150] += 500  # the lower rows
    path = write_thumbnail(tmp_path / "a.png", array, notes={"level": "100"})
    with Picture.open(path) as picture:
        assert picture.size == (100, 150)
        rows = np.asarray(picture.convert("L")).mean(axis=1)
    assert rows[110:].min() > rows[:90].max()
    assert notes_of(path) == {"level": "100"}


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_damaged_png_is_not_accepted(tmp_path: Path, content: bytes | None) -> None:
    path = write_thumbnail(tmp_path / "a.png", np.random.default_rng(1).normal(0, 1, (90, 90)))
    assert notes_of(path) == {}
    path.write_bytes(content if content is not None else path.read_bytes()[:-3000])
    assert notes_of(path) is None
    assert notes_of(tmp_path / "absent.png") is None


def test_thumbnails_are_made_once_and_repaired(
    store: Store, raws: Sequence[FrameRecord], night: date, tmp_path: Path
) -> None:
    frames = collect_night(store, night).frames
    folder = tmp_path / "thumbs"
    first = make_thumbnails(store, frames, folder)
    paths = [one.path for one in first.values() if one.path is not None]
    assert len(paths) == len(list(folder.iterdir())) == 3
    level = first[raws[0].sha256].level
    assert level is not None
    assert level > 0
    for path in paths[1:]:
        os.utime(path, ns=(1, 1))
    damaged = paths[1].read_bytes()
    paths[1].write_bytes(damaged[:100])
    raws[2].path.unlink()
    assert make_thumbnails(store, frames, folder) == first
    assert paths[1].read_bytes() == damaged
    assert paths[2].stat().st_mtime_ns == 1


def test_a_moved_or_replaced_frame_has_no_thumbnail(
    store: Store, raws: Sequence[FrameRecord], night: date, tmp_path: Path
) -> None:
    frames = collect_night(store, night).frames
    raws[0].path.unlink()
    raws[1].path.write_bytes(raws[2].path.read_bytes() + b" ")
    raws[2].path.write_bytes(b"X" * raws[2].size)  # damaged on the disk: no change is known
    store.frames.ingest([replace(raws[2], changed_ns=last_change(raws[2].path.stat()))])
    made = make_thumbnails(store, frames, tmp_path / "thumbs")
    assert [one.path for one in made.values()] == [None] * 3
    reasons = [made[raw.sha256].reason for raw in raws]
    assert reasons[:2] == ["its file has been moved", "its file has been replaced"]
    assert raws[2].path.name in reasons[2]


def test_the_preview_of_a_run_is_used_and_made_again_if_missing(
    store: Store, stack: Callable[..., Product], ref: Callable[..., ProductRef], record_run: Callable[..., object],
    night: date, tmp_path: Path,
) -> None:  # fmt: skip
    reported = ref(stack())
    record_run(reported)
    (product,) = collect_night(store, night).products
    made = show_product(store, product, tmp_path / "one")
    assert made.preview is not None
    assert made.file == reported.output
    own = write_preview(reported.preview, np.eye(9, dtype=np.float32)).read_bytes()
    taken = show_product(store, product, tmp_path / "two")
    assert taken.preview is not None
    assert taken.preview.read_bytes() == own != made.preview.read_bytes()
    reported.preview.write_bytes(b"damaged")
    again = show_product(store, product, tmp_path / "three")
    assert again.preview is not None
    assert again.preview.read_bytes() == made.preview.read_bytes()


def test_a_different_product_in_place_of_the_copy_is_not_shown(
    store: Store, stack: Callable[..., Product], ref: Callable[..., ProductRef], record_run: Callable[..., object],
    night: date, tmp_path: Path,
) -> None:  # fmt: skip
    reported = ref(stack())
    record_run(reported)
    stack(1)  # overwrites the copy
    product = next(p for p in collect_night(store, night).products if p.id == UUID(reported.id))
    write_preview(reported.preview, np.eye(9, dtype=np.float32))
    shown = show_product(store, product, tmp_path / "one")
    assert shown.file is None
    assert shown.preview is not None
    assert shown.preview.read_bytes() != reported.preview.read_bytes()


def test_a_product_without_a_file_gives_the_reason(
    store: Store, stack: Callable[..., Product], ref: Callable[..., ProductRef], record_run: Callable[..., object],
    night: date, tmp_path: Path,
) -> None:  # fmt: skip
    made = stack()
    record_run(ref(made), ref(id=str(UUID(int=9)), label="gone"))
    there, gone = sorted(collect_night(store, night).products, key=lambda p: p.status == "gone")
    path = store.file_of(made)
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    assert "missing or damaged" in show_product(store, there, tmp_path / "one").reason
    assert "no longer has" in show_product(store, gone, tmp_path / "one").reason

"""Products in the user's folder: none is lost, and the one that counts has the plain name."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from imaging.frames.facts import FrameFacts
from imaging.pixels.image import Image
from imaging.products import placing
from imaging.products.header_cards import Record
from imaging.products.placing import PlacedProduct, place_product, recipe_key_in
from imaging.products.product_file import ProductFile, datasums, write_product

STAMP = datetime(2026, 11, 23, 6, 2, 15, 165327, tzinfo=UTC)
KEY = "0123456789abcdef" * 4
NAME = "S20131121S0075_image.fits"

Write = Callable[..., Path]


@pytest.fixture
def image(extension: fits.Header, primary: fits.Header) -> Image:
    sci = np.random.default_rng(5).normal(100, 5, (40, 48)).astype(np.float32)
    return Image(sci, np.abs(sci) + 25, np.zeros((40, 48), np.uint16), extension, primary)


@pytest.fixture
def write(tmp_path: Path, image: Image, facts: FrameFacts) -> Write:
    """Write a product: ``write(what=..., stamp=..., key=...)``."""

    def product(what: Image = image, name: str = NAME, **changed: Any) -> Path:
        record = Record(kind="image", facts=facts, inputs=["S20131121S0075.fits"], stamp=STAMP, key=KEY)
        write_product(tmp_path / name, what, dataclasses.replace(record, **changed))
        return tmp_path / name

    return product


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "S20131121S0075_image.fits"


def changed(image: Image) -> Image:
    return dataclasses.replace(image, sci=image.sci + np.float32(1))


def test_placing_a_new_product(write: Write, out: Path) -> None:
    source = write()
    placed = place_product(source, out, key=KEY)
    assert (placed.path, placed.outcome) == (out, "new")
    assert out.read_bytes() == source.read_bytes()
    assert source.exists()


def test_a_read_only_file_is_linked_on_demand(write: Write, out: Path) -> None:
    source = write()
    assert place_product(source, out, key=KEY, link=True).outcome == "new"
    assert not out.samefile(source), "a file that may be written would change with its other name"
    out.unlink()
    source.chmod(0o444)
    assert place_product(source, out, key=KEY, link=True).outcome == "new"
    assert out.samefile(source)
    assert place_product(source, out, key=KEY, link=True).outcome == "unchanged"
    out.unlink()
    place_product(source, out, key=KEY)
    assert not out.samefile(source)


def test_a_link_takes_no_name_of_another(write: Write, image: Image, out: Path) -> None:
    place_product(write(changed(image)), out, key=KEY)
    source = write(name="other.fits")
    source.chmod(0o444)
    placed = place_product(source, out, key=KEY, link=True)
    assert placed.outcome == "renamed"
    assert placed.path.samefile(source)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
def test_without_links_it_is_copied(
    write: Write, out: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write()
    source.chmod(0o444)

    link = os.link

    def refuse(path: Path, new: Path) -> None:
        if path == source:
            raise OSError(number, "no links")
        link(path, new)

    monkeypatch.setattr("os.link", refuse)
    assert place_product(source, out, key=KEY, link=True).outcome == "new"
    assert out.read_bytes() == source.read_bytes()


def test_the_same_content_is_left_alone(write: Write, out: Path) -> None:
    place_product(write(), out, key=KEY)
    before = (out.stat().st_mtime_ns, out.stat().st_ino)
    later = write(stamp=STAMP + timedelta(days=1), name="later.fits")
    for overwrite in (False, True):
        assert place_product(later, out, key=KEY, overwrite=overwrite).outcome == "unchanged"
    assert (out.stat().st_mtime_ns, out.stat().st_ino) == before


def test_other_content_is_kept_and_the_new_takes_the_key(write: Write, image: Image, out: Path) -> None:
    place_product(write(key="f" * 64), out, key="f" * 64)
    kept = out.read_bytes()
    source = write(what=changed(image), name="b.fits")
    placed = place_product(source, out, key=KEY)
    assert (placed.path.name, placed.outcome) == ("S20131121S0075_image_01234567.fits", "renamed")
    assert out.read_bytes() == kept
    again = place_product(source, out, key=KEY)
    assert (again.path, again.outcome) == (placed.path, "unchanged")
    third = write(what=changed(changed(image)), name="c.fits")
    assert place_product(third, out, key=KEY).path.name == "S20131121S0075_image_01234567-2.fits"
    assert len(listing(out.parent)) == 3


def test_the_same_pixels_of_another_recipe_are_another_product(write: Write, out: Path) -> None:
    place_product(write(), out, key=KEY)
    other = write(key="e" * 64, name="other.fits")
    assert place_product(other, out, key="e" * 64).path.name == "S20131121S0075_image_eeeeeeee.fits"


def test_a_name_that_another_run_takes_meanwhile_is_not_overwritten(
    write: Write, image: Image, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = write(), write(what=changed(image), name="other.fits").read_bytes()
    chunks = placing._chunks

    def slow(path: Path) -> Iterator[bytes]:
        if not out.exists():
            out.write_bytes(other)  # between the look at the name and the naming
        yield from chunks(path)

    monkeypatch.setattr(placing, "_chunks", slow)
    placed = place_product(source, out, key=KEY)
    assert (placed.path.name, placed.outcome) == ("S20131121S0075_image_01234567.fits", "renamed")
    assert out.read_bytes() == other
    assert placed.path.read_bytes() == source.read_bytes()
    assert len(listing(out.parent)) == 2


def test_a_link_to_nowhere_is_kept(write: Write, out: Path) -> None:
    out.parent.mkdir()
    out.symlink_to("nowhere.fits")
    assert place_product(write(), out, key=KEY).outcome == "renamed"
    assert out.is_symlink()


def test_overwriting_when_asked(write: Write, image: Image, out: Path) -> None:
    place_product(write(), out, key=KEY)
    source = write(what=changed(image), name="b.fits")
    assert place_product(source, out, key=KEY, overwrite=True).outcome == "overwritten"
    assert out.read_bytes() == source.read_bytes()
    assert listing(out.parent) == [out.name]


@pytest.mark.parametrize("there", [b"", b"somebody's notes", None])
def test_what_is_no_product_is_kept_too(write: Write, out: Path, there: bytes | None) -> None:
    source = write()
    out.parent.mkdir()
    out.write_bytes(source.read_bytes()[:9000] if there is None else there)
    before = out.read_bytes()
    assert place_product(source, out, key=KEY).outcome == "renamed"
    assert out.read_bytes() == before


def test_a_damaged_product_is_not_the_same_content(write: Write, out: Path) -> None:
    source = write()
    place_product(source, out, key=KEY)
    raw = bytearray(out.read_bytes())
    with fits.open(out) as hdus:
        raw[hdus.fileinfo("VAR")["datLoc"] + 11] ^= 8
    out.write_bytes(raw)
    assert place_product(source, out, key=KEY).outcome == "renamed"


# Products of which one does not count


def numbered(write: Write, image: Image, n: int) -> tuple[Path, str]:
    """A product like no other, and its recipe key."""
    key = f"{n:08x}" * 8
    return write(dataclasses.replace(image, sci=image.sci + np.float32(n)), name=f"{n}.fits", key=key), key


def put(source: Path, key: str, out: Path, *losers: str) -> PlacedProduct:
    return place_product(source, out, key=key, yields=lambda other: other in losers)


def test_what_does_not_count_leaves_the_plain_name_and_is_kept(write: Write, image: Image, out: Path) -> None:
    (old, old_key), (new, new_key) = (numbered(write, image, n) for n in (1, 2))
    put(old, old_key, out)
    placed = put(new, new_key, out, old_key)
    kept = out.with_name("S20131121S0075_image_00000001.fits")
    assert placed == PlacedProduct(out, "new", kept)
    assert out.read_bytes() == new.read_bytes()
    assert kept.read_bytes() == old.read_bytes()
    assert listing(out.parent) == [out.name, kept.name]
    # Placed again, each is where it is.
    assert put(new, new_key, out, old_key) == PlacedProduct(out, "unchanged")
    assert put(old, old_key, out) == PlacedProduct(kept, "unchanged")
    # And back, when the old one counts again.
    assert put(old, old_key, out, new_key).moved == out.with_name("S20131121S0075_image_00000002.fits")
    assert out.read_bytes() == old.read_bytes()
    assert put(new, new_key, out, old_key) == PlacedProduct(out, "new", kept)
    assert len(listing(out.parent)) == 3


def test_who_counts_as_well_keeps_its_name(write: Write, image: Image, out: Path) -> None:
    (old, old_key), (new, new_key) = (numbered(write, image, n) for n in (1, 2))
    put(old, old_key, out)
    placed = put(new, new_key, out)
    assert placed == PlacedProduct(out.with_name("S20131121S0075_image_00000002.fits"), "renamed")
    assert recipe_key_in(out) == old_key


def test_a_link_keeps_its_name(write: Write, image: Image, out: Path) -> None:
    (old, old_key), (new, new_key) = (numbered(write, image, n) for n in (1, 2))
    out.parent.mkdir()
    out.symlink_to(old)
    assert put(new, new_key, out, old_key).outcome == "renamed"
    assert out.is_symlink()


@pytest.mark.parametrize("when", ["before it is copied", "after it was copied"])
def test_what_another_run_puts_there_meanwhile_is_kept(
    write: Write, image: Image, out: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    (old, old_key), (new, new_key), (other, other_key) = (numbered(write, image, n) for n in (1, 2, 3))
    put(old, old_key, out)
    original, once = placing._copy, itertools.count()

    def copy(path: Path, names: Iterator[Path]) -> tuple[Path, bool]:
        if next(once) > 0:
            return original(path, names)
        if when == "before it is copied":
            put(other, other_key, out, old_key)
            return original(path, names)
        result = original(path, names)
        put(other, other_key, out, old_key)
        return result

    monkeypatch.setattr(placing, "_copy", copy)
    placed = put(new, new_key, out, old_key)
    there = {recipe_key_in(path): path.read_bytes() for path in out.parent.iterdir()}
    assert there == {old_key: old.read_bytes(), new_key: new.read_bytes(), other_key: other.read_bytes()}
    assert recipe_key_in(placed.path) == new_key
    assert listing(out.parent) == [
        out.name, *(f"S20131121S0075_image_0000000{n}.fits" for n in (1, 2 if recipe_key_in(out) == other_key else 3))
    ]  # fmt: skip


def test_nothing_is_lost_between_many_runs(write: Write, image: Image, out: Path) -> None:
    """Each takes the plain name from those before it."""
    products = [numbered(write, image, n) for n in range(1, 7)]
    keys = [key for _, key in products]

    def run(n: int) -> None:
        put(*products[n], out, *keys[:n])

    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            list(pool.map(run, range(6)))
    there = {recipe_key_in(path): datasums(path) for path in out.parent.iterdir()}
    assert there == {key: datasums(path) for path, key in products}
    assert not [name for name in listing(out.parent) if name.startswith(".")]


def test_two_processes_share_a_folder(write: Write, image: Image, out: Path) -> None:
    """Who comes first has the plain name; no product is lost, and each that has another name has its key in it."""
    script = """
        import sys
        from pathlib import Path
        from imaging.products.placing import place_product, recipe_key_in
        out, *sources = map(Path, sys.argv[1:])
        for source in sources:
            place_product(source, out, key=recipe_key_in(source))
    """
    products = [numbered(write, image, n) for n in range(1, 7)]
    command = [sys.executable, "-c", textwrap.dedent(script)]
    runs = [
        subprocess.Popen([*command, out, *(path for path, _ in products[half::2])]) for half in (0, 1)
    ]  # fmt: skip
    assert [run.wait(60) for run in runs] == [0, 0]
    there = {recipe_key_in(path): datasums(path) for path in out.parent.iterdir()}
    assert there == {key: datasums(path) for path, key in products}
    for path in out.parent.iterdir():
        with ProductFile(path) as product:
            key = str(product.primary["NFKEY"])
        assert path == out or path.name == f"S20131121S0075_image_{key[:8]}.fits"

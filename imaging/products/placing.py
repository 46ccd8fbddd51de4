"""Products in the user's folder: who has the plain name, and that nothing is ever lost.

A product has the name of its first frame. Where a folder holds several products of one name, the plain name is that of
one of them and the others have the first digits of their recipe key in theirs; NFKEY in the header is the whole key.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from imaging.errors import FrameError, NirflowError
from imaging.io.atomic import NameTakenError, write_whole
from imaging.io.compressed import reading
from imaging.io.limits import opened
from imaging.products.product_file import ProductFile, datasums

_CHUNK: Final = 8 << 20
_SHORT_KEY: Final = 8


@dataclass(frozen=True)
class PlacedProduct:
    """What `place_product` did.

    Attributes
    ----------
    path
        The file.
    outcome
        Whether it is new, was there, had to take another name, or took the plain name of what was there.
    moved
        Where a product that had the plain name is now.
    """

    path: Path
    outcome: Literal["new", "unchanged", "renamed", "overwritten"]
    moved: Path | None = None


def place_product(
    source: Path,
    target: Path,
    *,
    key: str,
    overwrite: bool = False,
    yields: Callable[[str], bool] = lambda _: False,
) -> PlacedProduct:
    """Copy a product to where the user wants it, without ever losing another one.

    Parameters
    ----------
    source
        The product.
    target
        Where it goes. A file there with the same planes (by DATASUM; stamps may differ) and recipe key is left alone.
        Any other is kept, and the new one gets the first 8 characters of ``key`` in its name.
    key
        The recipe key.
    overwrite
        Replace what is there.
    yields
        Whether the product of another recipe key has to leave the plain name to this one. It is kept, under its name
        with its key.

    Raises
    ------
    NirflowError
        Where the folder cannot be written.
    """
    new = datasums(source)
    if overwrite and target.exists() and not _holds(target, new, key):
        write_whole(target, _chunks(source))
        return PlacedProduct(target, "overwritten")
    moved = None
    names = _names(target, key)
    candidate = next(names)
    while True:
        if candidate.is_symlink() or candidate.exists():
            if _holds(candidate, new, key):
                return PlacedProduct(candidate, "unchanged", moved)
            ours = candidate == target and moved is None and not candidate.is_symlink()
            old = recipe_key_in(candidate) if ours else ""
            if old and old != key and yields(old):
                moved = _make_way(target, old)
            else:
                candidate = next(names)
            continue
        try:
            write_whole(candidate, _chunks(source), replace=False)
        except NameTakenError:
            continue  # another run took the name meanwhile: look at what it wrote
        return PlacedProduct(candidate, "new" if candidate == target else "renamed", moved)


def recipe_key_in(path: Path) -> str:
    """The recipe key in the header of a product; an empty text where it is none of ours."""
    try:
        with ProductFile(path) as product:
            return str(product.primary.get("NFKEY", "")).strip()
    except FrameError:
        return ""


def _make_way(target: Path, key: str) -> Path | None:
    """Move the product of ``key`` from the plain name to one with its key; None where another run was quicker.

    It has its new name before the plain one is taken from it. What another run may have put there in between is
    put back.
    """
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}")
    try:
        kept, made = _copy(target, _names(target, key, plain=False))
        if recipe_key_in(kept) != key:  # another run has changed the plain name since it was looked at
            if made:
                kept.unlink()
            return None
        target.replace(aside)
    except (FrameError, FileNotFoundError):
        return None
    except OSError as error:
        raise NirflowError(
            f"{target.name} could not be renamed in {target.parent}: {error.strerror or error}.",
            remedy="Make the folder writable, or choose another with --out.",
        ) from error
    if not _holds(aside, datasums(kept), key):
        _copy(aside, _names(target, recipe_key_in(aside) or key))
    aside.unlink()
    return kept


def _copy(path: Path, names: Iterator[Path]) -> tuple[Path, bool]:
    """Copy a file to the first of some names that is free, or has the same planes already; and whether it was free."""
    for name in names:
        try:
            write_whole(name, _chunks(path), replace=False)
        except NameTakenError:
            if _holds(name, datasums(path), recipe_key_in(path)):
                return name, False
        else:
            return name, True
    raise AssertionError("there is always another name")


def _holds(path: Path, planes: dict[str, str], key: str) -> bool:
    """Whether ``path`` is an undamaged product of those planes, and of that recipe where it names one.

    Two recipes may give the same pixels: their headers and tables differ.
    """
    try:
        with ProductFile(path) as there:
            other = str(there.primary.get("NFKEY", key)).strip() != key
            return not other and there.datasums() == planes and not there.damaged_planes()
    except FrameError:
        return False  # what is there is no product that can be read: other content


def _names(target: Path, key: str, *, plain: bool = True) -> Iterator[Path]:
    if plain:
        yield target
    keyed = target.with_name(f"{target.stem}_{key[:_SHORT_KEY]}{target.suffix}")
    yield keyed
    number = 2
    while True:
        yield keyed.with_name(f"{keyed.stem}-{number}{keyed.suffix}")
        number += 1


def _chunks(path: Path) -> Iterator[bytes]:
    with reading(path), opened(path) as file:
        while chunk := file.read(_CHUNK):
            yield chunk

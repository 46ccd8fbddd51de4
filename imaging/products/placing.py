"""Products in the user's folder: which one has the plain name, without ever losing another.

A product has the name of its first frame. If a folder contains several products with one name, one of them
has the plain name and the others have the first digits of their recipe key in theirs; NFKEY in the header is
the complete key.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from imaging.errors import FrameError, NirflowError
from imaging.io.atomic import NameTakenError, link_read_only, write_complete
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
        Whether it is new, existed already, got another name, or took over the plain name of an existing
        product.
    moved
        New path of the product that had the plain name.
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
    link: bool = False,
) -> PlacedProduct:
    """Copy or link a product to the user's folder without ever losing another one.

    Parameters
    ----------
    source
        The product.
    target
        Its destination. An existing file with the same planes (by DATASUM; time stamps may differ) and recipe
        key is left unchanged. Any other is kept, and the new one gets the first 8 characters of ``key`` in
        its name.
    key
        The recipe key.
    overwrite
        Replace an existing file.
    yields
        Whether a product with another recipe key gives up the plain name to this one. It is kept under a name
        with its key.
    link
        A new file may be another name of ``source`` if nobody may write that; it takes no space then.

    Raises
    ------
    NirflowError
        If the folder cannot be written.
    """
    new = datasums(source)
    if overwrite and target.exists() and not _holds(target, new, key):
        write_complete(target, _chunks(source))
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
            if not (link and link_read_only(source, candidate)):
                write_complete(candidate, _chunks(source), replace=False)
        except NameTakenError:
            continue  # another run took the name meanwhile: check what it wrote
        return PlacedProduct(candidate, "new" if candidate == target else "renamed", moved)


def recipe_key_in(path: Path) -> str:
    """Return the recipe key in the header of a product; an empty string if it is not one of ours."""
    try:
        with ProductFile(path) as product:
            return str(product.primary.get("NFKEY", "")).strip()
    except FrameError:
        return ""


def _make_way(target: Path, key: str) -> Path | None:
    """Move the product of ``key`` from the plain name to one with its key; return None if another run was faster.

    It has its new name before the plain one is removed. A file that another run placed there in between is
    restored.
    """
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}")
    try:
        kept, made = _copy(target, _names(target, key, plain=False))
        if recipe_key_in(kept) != key:  # another run has changed the plain name since it was checked
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
    """Copy a file to the first name that is free or has the same planes; return it and whether it was free."""
    for name in names:
        try:
            write_complete(name, _chunks(path), replace=False)
        except NameTakenError:
            if _holds(name, datasums(path), recipe_key_in(path)):
                return name, False
        else:
            return name, True
    raise AssertionError("there is always another name")


def _holds(path: Path, planes: dict[str, str], key: str) -> bool:
    """Return whether ``path`` is an undamaged product with those planes, and with that recipe if it names one.

    Two recipes may give the same pixels: their headers and tables differ.
    """
    try:
        with ProductFile(path) as there:
            other = str(there.primary.get("NFKEY", key)).strip() != key
            return not other and there.datasums() == planes and not there.damaged_planes()
    except FrameError:
        return False  # the existing file is not a readable product: other content


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

"""Products from one store to another: a folder or tar with a manifest, lineage included.

Whatever a product was made from goes along: the calibrations with their files, the raw frames as what the
store knows of them (their pixels stay where they are). Taking the same again changes nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
import tempfile
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from calib_store.acceptance import check_content, check_planes
from calib_store.decision_log import decisions_on_frames, take_frame_decisions, take_product_decisions
from calib_store.manifest import FrameEntry, Manifest, ProductEntry, manifest_of, new_product
from calib_store.objects import file_sha256, object_name
from calib_store.products import NewProduct
from calib_store.records import Product
from calib_store.store import Store
from imaging.errors import FrameError, StoreError
from imaging.facts import facts_from_headers
from imaging.products import ProductFile

_MANIFEST = "manifest.json"
_OBJECTS = "objects"
#: Suffixes of a target or source that is a tar; anything else is a folder.
_TARS = {".tar": "", ".tgz": "gz", ".gz": "gz"}
#: A manifest longer than this is none, bytes.
_LARGEST_MANIFEST = 1 << 30


@dataclass
class Imported:
    """What became of a transfer.

    Attributes
    ----------
    added, known
        Products that are new here, and that were here.
    frames
        Raw frames that are new here.
    changed
        Products and frames that were here and have another status now, because the other store decided so since.
    remarks
        What did not come along as it was: a certification for a time that is taken, a status that both stores
        decided differently.
    """

    added: list[Product] = field(default_factory=list)
    known: list[Product] = field(default_factory=list)
    frames: int = 0
    changed: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def export(store: Store, wanted: Sequence[Product], target: Path) -> Manifest:
    """Write products, and all that they were made from, for another store.

    Parameters
    ----------
    store
        The store.
    wanted
        The products.
    target
        A new folder; or a new file, whose name ends with ``.tar`` or ``.tar.gz``.

    Raises
    ------
    StoreError
        Where the target is there, cannot be written, or a product's file is damaged. Nothing stays then.
    """
    if target.exists():
        raise StoreError(f"{target} is there already.", remedy="Name a new folder or tar.")
    manifest = manifest_of(store, wanted)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix in _TARS:
            _write_tar(store, manifest, aside, _TARS[target.suffix])
        else:
            _write_folder(store, manifest, aside)
        aside.rename(target)
    except OSError as error:
        raise StoreError(
            f"{target} cannot be written: {error.strerror or error}.",
            remedy="See that the folder above it can be written and has room.",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):
            aside.unlink()
    return manifest


def import_products(store: Store, source: Path, *, author: str) -> Imported:
    """Take the products of a transfer; what is here already stays, with the later decisions of the other store.

    A decision about a product or frame is taken over where it follows the last one here, or nothing was decided here.
    Where both stores have decided since, the status here stays, and a remark has both.

    Parameters
    ----------
    source
        A folder or tar that `export` wrote.
    author
        Who takes them, for the log of their status.

    Raises
    ------
    StoreError
        Where it is no transfer, or a file in it is missing, not the one that the manifest names, or cannot serve
        (`calib_store.acceptance`). What was taken before that stays: it is intact, and the rest comes with the
        next attempt. Products that were rejected or superseded serve no frame, and come along as they are.
    """
    done = Imported()
    with _opened(source) as read:
        manifest = _read_manifest(source, read)
        known = store.frames.with_sha256s(frame.sha256 for frame in manifest.frames).keys()
        done.frames = store.frames.note(
            [(f.sha256, f.name, f.facts, f.quarantine, f.header) for f in manifest.frames]
        )
        _take_frame_decisions(store, manifest.frames, known, done)
        with tempfile.TemporaryDirectory(prefix="nirflow-import-") as folder:
            waiting: list[tuple[Product, ProductEntry]] = []
            for entry in manifest.products:
                if (product := store.find(entry.recipe_key)) is not None:
                    done.known.append(product)
                else:
                    file = _checked_file(source, entry, read, Path(folder))
                    new = new_product(entry, author)
                    if not entry.decisions or entry.decisions[-1].status in ("candidate", "certified"):
                        _check_content(store, source, new, file)
                    product = store.add(new, file, move=True)
                    done.added.append(product)
                if any(decision.by is not None for decision in entry.decisions):
                    waiting.append((product, entry))  # it names another product, which may come yet
                else:
                    _take_product_decisions(store, product, entry, done)
            for product, entry in waiting:
                _take_product_decisions(store, product, entry, done)
    return done


# Writing


def _text(manifest: Manifest) -> bytes:
    return json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False).encode()


def _write_folder(store: Store, manifest: Manifest, folder: Path) -> None:
    for product in manifest.products:
        target = folder / _OBJECTS / object_name(product.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        store.objects.export(product.sha256, target)
    folder.mkdir(exist_ok=True)
    (folder / _MANIFEST).write_bytes(_text(manifest))


def _write_tar(store: Store, manifest: Manifest, path: Path, compression: str) -> None:
    with tarfile.open(path, f"w:{compression}") as tar:  # type: ignore[call-overload]
        text = _text(manifest)
        tar.addfile(_member(_MANIFEST, len(text)), io.BytesIO(text))
        for product in manifest.products:
            file = store.objects.local(product.sha256)
            with file.open("rb") as content:
                name = f"{_OBJECTS}/{object_name(product.sha256)}"
                tar.addfile(_member(name, product.size), content)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


# Reading

_Read = Any  # a function of a name that gives an open file, or None where there is none


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[_Read]:
    """A function that opens a file of the transfer by its name there; names are made, never read from it."""
    if source.is_dir():

        def from_folder(name: str) -> BinaryIO | None:
            path = source / name
            return path.open("rb") if path.is_file() else None

        yield from_folder
        return
    if not source.is_file():
        raise StoreError(
            f"There is no file or folder {source}.", remedy="Name what `nirflow cal export` wrote."
        )
    try:
        tar = tarfile.open(source)  # noqa: SIM115  # closed below
    except (tarfile.TarError, OSError, EOFError) as error:
        raise StoreError(
            f"{source.name} is no tar that can be read.", remedy="Name what `nirflow cal export` wrote."
        ) from error
    with tar:

        def from_tar(name: str) -> Any:
            try:
                member = tar.getmember(name)
            except KeyError:
                return None
            return tar.extractfile(member) if member.isfile() else None

        try:
            yield from_tar
        except (tarfile.TarError, EOFError) as error:
            raise StoreError(f"{source.name} is damaged: {error}.", remedy="Fetch it again.") from error


def _read_manifest(source: Path, read: _Read) -> Manifest:
    remedy = "Give a folder or tar that `nirflow cal export` wrote."
    file = read(_MANIFEST)
    if file is None:
        raise StoreError(f"{source.name} has no {_MANIFEST}.", remedy=remedy)
    with file:
        text = file.read(_LARGEST_MANIFEST)
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise StoreError(f"{source.name}: {_MANIFEST}: {place}: {first['msg']}.", remedy=remedy) from None


def _checked_file(source: Path, entry: ProductEntry, read: _Read, folder: Path) -> Path:
    """A copy of a product's file whose bytes are those of the manifest."""
    file = read(f"{_OBJECTS}/{object_name(entry.sha256)}")
    if file is None:
        raise StoreError(f"{source.name} lacks the file of {entry.name}.", remedy="Export it again.")
    target = folder / f"{entry.sha256}.fits"
    with file, target.open("wb") as out:
        left = entry.size + 1  # what is longer is another file, and may be of any length
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            out.write(block)
            left -= len(block)
    if left != 1 or file_sha256(target) != entry.sha256:
        raise StoreError(
            f"{source.name}: the file of {entry.name} is not the one that the manifest names.",
            remedy="Fetch it again, or export it again.",
        )
    return target


def _check_content(store: Store, source: Path, new: NewProduct, file: Path) -> None:
    """Refuse a product that cannot serve, or whose file is not what the manifest names."""
    try:
        with ProductFile(file) as product:
            its = facts_from_headers(product.primary, product.header, name=new.name)
            check_planes(new.name, product)
            if its.product_kind not in ("", new.kind.removeprefix("sky")):
                raise FrameError(
                    new.name, f"the manifest has it as a {new.kind}, its file is a {its.product_kind}",
                    remedy="Export it again.",
                )  # fmt: skip
            check_content(store, new.kind, product, new.name, new.facts, new.inputs, [("its file", its)])
    except FrameError as error:
        problem = error.message.removeprefix(f"{error.name}: ")
        raise StoreError(f"{source.name}: {new.name}: {problem}", remedy=error.remedy) from error


def _take_product_decisions(store: Store, product: Product, entry: ProductEntry, done: Imported) -> None:
    taken = take_product_decisions(store, product, entry.decisions)
    if taken.changed and product in done.known:
        done.changed.append(taken.changed)
    done.remarks += [taken.remark] if taken.remark else []


def _take_frame_decisions(
    store: Store, entries: Sequence[FrameEntry], known: Collection[str], done: Imported
) -> None:
    """Take over the decisions about raw frames; ``known`` are those that were here before."""
    decided = {entry.sha256: entry.decisions for entry in entries if entry.decisions}
    frames = store.frames.with_sha256s(decided)
    here = store.database.read(lambda connection: decisions_on_frames(connection, decided))
    for sha256, decisions in decided.items():
        taken = take_frame_decisions(store, frames[sha256], here.get(sha256, ()), decisions)
        if taken.changed and sha256 in known:
            done.changed.append(taken.changed)
        done.remarks += [taken.remark] if taken.remark else []

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calib_store.objects import file_sha256, object_name
from calib_store.products import NewProduct, software_version, with_ids
from calib_store.records import Foreign, InputRef, Product
from calib_store.store import Store
from imaging.errors import StoreError
from imaging.facts import FrameFacts

_MANIFEST = "manifest.json"
_OBJECTS = "objects"
#: Suffixes of a target or source that is a tar; anything else is a folder.
_TARS = {".tar": "", ".tgz": "gz", ".gz": "gz"}
_SHA256 = r"^[0-9a-f]{64}$"
#: A manifest longer than this is none, bytes.
_LARGEST_MANIFEST = 1 << 30


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Word(_Entry):
    """What a person said of a product or frame."""

    status: Literal["certified", "rejected", "superseded"]
    validity: tuple[datetime | None, datetime | None] | None = None
    author: str
    reason: str
    changed_at: datetime
    by: UUID | None = None
    because: str | None = None


class _Frame(_Entry):
    sha256: str = Field(pattern=_SHA256)
    name: str
    facts: FrameFacts | None
    quarantine: str | None
    header: dict[str, Any]
    word: _Word | None


class _Input(_Entry):
    role: str
    frame: str | None = Field(default=None, pattern=_SHA256)
    product: UUID | None = None
    foreign: tuple[str, str] | None = None


class _Product(_Entry):
    kind: str
    name: str
    sha256: str = Field(pattern=_SHA256)
    size: int = Field(ge=0)
    recipe_key: str = Field(pattern=_SHA256)
    span: tuple[datetime, datetime]
    facts: FrameFacts
    inputs: tuple[_Input, ...]
    parameters: dict[str, Any]
    metrics: dict[str, Any]
    algorithm_version: str
    software_version: str
    flow_run_id: str | None
    gate: dict[str, Any] | None
    published: bool
    made_at: datetime
    word: _Word | None


class Manifest(_Entry):
    """What a transfer holds: products, each after those that it was made from, and raw frames."""

    format: Literal["nirflow-products"] = "nirflow-products"
    version: Literal[1, 2] = 2
    made_at: datetime
    software: str
    products: tuple[_Product, ...]
    frames: tuple[_Frame, ...]


@dataclass
class Imported:
    """What became of a transfer.

    Attributes
    ----------
    added, known
        Products that are new here, and that were here.
    frames
        Raw frames that are new here.
    remarks
        What did not come along as it was: a certification for a time that is taken.
    """

    added: list[Product] = field(default_factory=list)
    known: list[Product] = field(default_factory=list)
    frames: int = 0
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
    manifest = _manifest(store, wanted)
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
    """Take the products of a transfer; what is here already stays as it is.

    Parameters
    ----------
    source
        A folder or tar that `export` wrote.
    author
        Who takes them, for the log of their status.

    Raises
    ------
    StoreError
        Where it is no transfer, or a file in it is missing or not the one that the manifest names. What was
        taken before that stays: it is whole, and the rest comes with the next attempt.
    """
    done = Imported()
    with _opened(source) as read:
        manifest = _read_manifest(source, read)
        done.frames = store.frames.note(
            [(f.sha256, f.name, f.facts, f.quarantine, f.header) for f in manifest.frames]
        )
        for frame in manifest.frames:
            _take_word_of_frame(store, frame)
        with tempfile.TemporaryDirectory(prefix="nirflow-import-") as folder:
            waiting: list[tuple[Product, _Product]] = []
            for entry in manifest.products:
                if (product := store.find(entry.recipe_key)) is not None:
                    done.known.append(product)
                else:
                    file = _checked_file(source, entry, read, Path(folder))
                    product = store.add(_new(entry, author), file, move=True)
                    done.added.append(product)
                if entry.word is not None and entry.word.by is not None:
                    waiting.append((product, entry))  # the word names another product, which may come yet
                else:
                    done.remarks += _take_word(store, product, entry)
            done.remarks += [text for one in waiting for text in _take_word(store, *one)]
    return done


# Writing


def _manifest(store: Store, wanted: Sequence[Product]) -> Manifest:
    """The manifest of products and their ancestors."""
    ordered: dict[UUID, Product] = {}
    frames: set[str] = set()

    def visit(product: Product) -> None:
        if product.id in ordered:
            return
        for ref in store.inputs_of(product):
            if isinstance(ref.source, UUID):
                visit(store.get(ref.source))
            elif isinstance(ref.source, str):
                frames.add(ref.source)
        ordered[product.id] = product

    for product in wanted:
        visit(product)
    known = store.frames.with_sha256s(frames)
    words = store.frames.rejections(frames)
    return Manifest(
        made_at=datetime.now(UTC),
        software=software_version(),
        products=tuple(_product_entry(store, product) for product in ordered.values()),
        frames=tuple(
            _Frame(
                sha256=sha256, name=frame.name, facts=frame.facts, quarantine=frame.quarantine,
                header=store.frames.header_of(sha256),
                word=_Word.model_validate(vars(words[sha256])) if sha256 in words else None,
            )
            for sha256, frame in sorted(known.items())
        ),
    )  # fmt: skip


def _product_entry(store: Store, product: Product) -> _Product:
    given = product.model_dump(include=set(_Product.model_fields))
    inputs = [
        _Input(
            role=ref.role,
            frame=ref.source if isinstance(ref.source, str) else None,
            product=ref.source if isinstance(ref.source, UUID) else None,
            foreign=(ref.source.name, ref.source.checksum) if isinstance(ref.source, Foreign) else None,
        )
        for ref in store.inputs_of(product)
    ]
    last = store.history(product)[-1]
    word = None if last.status == "candidate" else _Word.model_validate(vars(last))
    return _Product.model_validate(given | {"inputs": inputs, "word": word})


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
        raise StoreError(f"{source.name} is no tar: {error}.", remedy="Fetch it again.") from error
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


def _checked_file(source: Path, entry: _Product, read: _Read, folder: Path) -> Path:
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


def _new(entry: _Product, author: str) -> NewProduct:
    return NewProduct(
        kind=entry.kind, name=entry.name, recipe_key=entry.recipe_key, span=entry.span, facts=entry.facts,
        inputs=[_ref(entry, one) for one in entry.inputs], parameters=entry.parameters, metrics=entry.metrics,
        algorithm_version=entry.algorithm_version, author=author, flow_run_id=entry.flow_run_id,
        gate=entry.gate, published=entry.published, software=entry.software_version, made_at=entry.made_at,
    )  # fmt: skip


def _ref(entry: _Product, one: _Input) -> InputRef:
    sources: list[str | UUID | Foreign] = [s for s in (one.frame, one.product) if s is not None]
    sources += [Foreign(*one.foreign)] if one.foreign is not None else []
    if len(sources) != 1:
        raise StoreError(
            f"An input of {entry.name} in the manifest is not one thing.", remedy="Export it again."
        )
    return InputRef(one.role, sources[0])


def _take_word(store: Store, product: Product, entry: _Product) -> list[str]:
    """Take over what people said of a product elsewhere, where nobody has said anything here."""
    word = entry.word
    if word is None or len(store.history(product)) > 1:
        return []
    try:
        named = [word.by] if word.by is not None else []
        by = next((one.id for one in store.database.read(lambda c: with_ids(c, named))), None)
        store.set_status(**word.model_dump(exclude={"changed_at", "by"}), product=product, by=by)
    except StoreError as error:
        return [f"{product.told} stays a candidate: {error.message}"]
    return []


def _take_word_of_frame(store: Store, frame: _Frame) -> None:
    known = store.frames.with_sha256s([frame.sha256])[frame.sha256]
    if frame.word is not None and not store.frames.history(known):
        store.frames.set_status(known, "rejected", author=frame.word.author, reason=frame.word.reason)

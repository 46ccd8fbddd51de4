"""The folder or tar in which products are transferred between stores: written, and read with limits.

A transfer may contain anything: its members are read only up to the length that its manifest, or a limit here, allows,
and are stored under names that are generated here.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import shutil
import tarfile
import tempfile
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, Self

from calib_store.exchange.manifest import LARGEST_MANIFEST, Manifest, manifest_text, read_manifest
from calib_store.files.objects import file_sha256, object_name
from calib_store.store import Store
from imaging.errors import FrameError, StoreError
from imaging.io.limits import opened
from imaging.machine import size_text

_MANIFEST: Final = "manifest.json"
_OBJECTS: Final = "objects"
#: Suffixes of a target that is a tar, with its compression; anything else is a folder.
_TARS: Final = {".tar": "", ".tgz": "gz", ".gz": "gz"}
_OPENERS: Final[Mapping[bytes, Callable[[Any], Any]]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
}
_CHUNK: Final = 1 << 20
#: Bytes of a tar in addition to its files: headers, padding, folders.
_AROUND_A_FILE: Final = 4096
#: Largest tar header for a long name, bytes.
_LONGEST_NAME: Final = 1 << 16
_WRITE: Final = "Give a folder or tar that `nirflow cal export` wrote."


def write_bundle(store: Store, manifest: Manifest, target: Path) -> None:
    """Write a manifest and the files of its products; all or nothing.

    Raises
    ------
    StoreError
        If the target exists or cannot be written, or a product's file is damaged.
    """
    if target.exists():
        raise StoreError(f"{target} already exists.", remedy="Name a new folder or tar.")
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
            remedy="Check that the folder above it can be written and has room.",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):
            aside.unlink()


def _write_folder(store: Store, manifest: Manifest, folder: Path) -> None:
    for product in manifest.products:
        target = folder / _OBJECTS / object_name(product.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        store.objects.export(product.sha256, target)
    folder.mkdir(exist_ok=True)
    (folder / _MANIFEST).write_bytes(manifest_text(manifest))


def _write_tar(store: Store, manifest: Manifest, path: Path, compression: str) -> None:
    with tarfile.open(path, f"w:{compression}") as tar:  # type: ignore[call-overload]
        text = manifest_text(manifest)
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


class Bundle:
    """A received transfer; created by `Bundle.open`.

    Attributes
    ----------
    source
        The folder or tar.
    manifest
        Its description of its products.
    """

    def __init__(self, source: Path, manifest: Manifest) -> None:
        self.source = source
        self.manifest = manifest

    @classmethod
    def open(cls, source: Path) -> Self:
        """Read the manifest of a folder or tar.

        Raises
        ------
        StoreError
            If it is not a transfer, or its manifest is damaged or too large.
        """
        if source.is_dir():
            path = source / _MANIFEST
            with _reading(source):
                if not path.exists():
                    raise _without_manifest(source)
                with opened(path) as file:
                    text = file.read(LARGEST_MANIFEST + 1)
            return cls(source, _checked_manifest(source, text))
        if not source.exists():
            raise StoreError(
                f"There is no file or folder {source}.", remedy="Name what `nirflow cal export` wrote."
            )
        for member, content in _members(source, LARGEST_MANIFEST + _AROUND_A_FILE, 1):
            if member.name != _MANIFEST:
                break
            with _reading(source):
                text = content.read(LARGEST_MANIFEST + 1)
            return cls(source, _checked_manifest(source, text))
        raise _without_manifest(source)

    def files(self, wanted: Collection[str]) -> Iterator[tuple[str, Path]]:
        """Yield verified copies of the files with those sha256, each deleted when the next one is requested.

        Raises
        ------
        StoreError
            If a file is missing, or does not match the manifest.
        """
        entries = {product.sha256: product for product in self.manifest.products}
        left = set(wanted)
        with tempfile.TemporaryDirectory(prefix="nirflow-import-") as folder:
            for sha256, content in self._contents(left):
                target = Path(folder) / f"{sha256}.fits"
                size = entries[sha256].size
                with _reading(self.source):
                    _copy(content, target, size)
                if target.stat().st_size != size or file_sha256(target) != sha256:
                    raise StoreError(
                        f"{self.source.name}: the file of {entries[sha256].name} does not match the manifest.",
                        remedy="Fetch it again, or export it again.",
                    )  # fmt: skip
                left.discard(sha256)
                yield sha256, target
                target.unlink(missing_ok=True)
        if left:
            missing = next(product.name for product in self.manifest.products if product.sha256 in left)
            raise StoreError(f"{self.source.name} lacks the file of {missing}.", remedy="Export it again.")

    def _contents(self, wanted: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield the files with those sha256, open, in the order of the transfer."""
        names = {f"{_OBJECTS}/{object_name(sha256)}": sha256 for sha256 in wanted}
        if self.source.is_dir():
            for name, sha256 in names.items():
                path = self.source / name
                if path.exists():
                    with _reading(self.source), opened(path) as file:
                        yield sha256, file
            return
        sizes = {product.sha256: product.size for product in self.manifest.products}
        most = LARGEST_MANIFEST + sum(sizes.values()) + _AROUND_A_FILE * (len(sizes) + 2)
        if not names:
            return
        for member, content in _members(self.source, most, 4 * len(sizes) + 4):
            if (found := names.pop(member.name, None)) is not None:
                yield found, content
            if not names:
                break


def _copy(content: IO[bytes], target: Path, size: int) -> None:
    """Copy a file of known size; of a longer one, which cannot be that file, copy one byte more."""
    with target.open("wb") as out:
        left = size + 1
        while left > 0 and (block := content.read(min(left, _CHUNK))):
            out.write(block)
            left -= len(block)


def _checked_manifest(source: Path, text: bytes) -> Manifest:
    if len(text) > LARGEST_MANIFEST:
        raise StoreError(
            f"{source.name}: {_MANIFEST} is larger than {size_text(LARGEST_MANIFEST)}.",
            remedy="Export fewer products at a time.",
        )
    try:
        return read_manifest(text)
    except StoreError as error:
        raise StoreError(
            f"{source.name}: {_MANIFEST}: {error.message}", remedy=error.remedy or _WRITE
        ) from None


def _without_manifest(source: Path) -> StoreError:
    return StoreError(f"{source.name} has no {_MANIFEST} at its beginning.", remedy=_WRITE)


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Explain errors when a transfer cannot be read."""
    try:
        yield
    except FrameError as error:  # not a file: a pipe, a device
        raise StoreError(f"{source.name}: {error.problem}.", remedy=_WRITE) from error
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise StoreError(
                f"{source} cannot be read, or copied to {tempfile.gettempdir()}: {error.strerror}.",
                remedy="Check that it can be read, and that there is room; then try again.",
            ) from error
        raise StoreError(
            f"{source.name} is damaged, or not a readable tar: {error}.",
            remedy="Fetch it again, or name what `nirflow cal export` wrote.",
        ) from error


class _Short(tarfile.TarInfo):
    """A header of a tar; headers for long names are read into memory completely, so their size is limited."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header."""
        found = super().frombuf(buf, encoding, errors)
        if (
            not (found.isreg() or found.isdir() or found.issym() or found.islnk())
            and found.size > _LONGEST_NAME
        ):
            raise tarfile.ReadError(f"a header of {size_text(found.size)}")
        return found


class _Bounded:
    """A stream that is read up to a maximum number of bytes."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._left = stream, most

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        block = self._stream.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise tarfile.ReadError("it holds more than its manifest names")
        return block


def _members(source: Path, most: int, count: int) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yield the files in a tar, open and in order; no more bytes and members are read than allowed."""
    with _reading(source), opened(source) as file, contextlib.ExitStack() as stack:
        magic = file.read(3)
        file.seek(0)
        opener = next((one for start, one in _OPENERS.items() if magic.startswith(start)), None)
        stream = file if opener is None else stack.enter_context(opener(file))
        tar = stack.enter_context(
            tarfile.open(fileobj=_Bounded(stream, most), mode="r|", tarinfo=_Short)  # type: ignore[call-overload]
        )
        for number, member in enumerate(tar):
            if number >= count:
                raise tarfile.ReadError("it holds more files than its manifest names")
            if member.isreg() and (content := tar.extractfile(member)) is not None:
                yield member, content

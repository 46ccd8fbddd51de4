"""Planes between steps: a folder of native arrays that is whole or not there, read in bands of rows.

A step's pixels go to the next step through such a folder, never through the orchestrator. A folder is
written aside and renamed, carries the sha256 of each plane, and is checked against it before it is trusted.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_MANIFEST = "planes.json"


def write_planes(
    folder: Path, planes: Mapping[str, NDArray[Any]], meta: Mapping[str, Any] | None = None
) -> Path:
    """Write ``planes`` (name to array) and ``meta`` (JSON values) as ``folder``, all or nothing.

    Scratch can be made again, so it is not synced to the disk; the checksums tell a torn write.
    A folder that is there already is replaced.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}")
    aside.mkdir()
    try:
        manifest: dict[str, Any] = {"meta": dict(meta or {}), "planes": {}}
        for name, plane in planes.items():
            data = np.ascontiguousarray(plane)
            (aside / name).write_bytes(data.data)
            manifest["planes"][name] = {
                "dtype": data.dtype.str,
                "shape": list(data.shape),
                "sha256": hashlib.sha256(data.data).hexdigest(),
            }
        (aside / _MANIFEST).write_text(json.dumps(manifest))
        _replace(folder, aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return folder


class PlanesWriter:
    """Planes of one scratch folder, written by rows in any order; the folder appears whole at `commit`.

    The files are made at their full size beside the folder, so threads may write different rows at the
    same time. Left without `commit` (an error, a `with` block that ends early), nothing stays.

    Parameters
    ----------
    folder
        Where the planes are to be; a folder that is there already is replaced at `commit`.
    layout
        Name to (dtype, shape) of each plane.
    """

    def __init__(self, folder: Path, layout: Mapping[str, tuple[DTypeLike, tuple[int, ...]]]) -> None:
        self.folder = folder
        self._layout = {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in layout.items()}
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}")
        self._aside.mkdir()
        self._open: dict[str, int] = {}
        try:
            for name, (dtype, shape) in self._layout.items():
                self._open[name] = os.open(self._aside / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
                os.ftruncate(self._open[name], dtype.itemsize * int(np.prod(shape)))
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> PlanesWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def __contains__(self, name: str) -> bool:
        return name in self._layout

    def write(self, name: str, rows: slice, data: NDArray[Any]) -> None:
        """Write ``rows`` of a plane; ``data`` has the plane's dtype and the rows' shape."""
        dtype, shape = self._layout[name]
        first, last, _ = rows.indices(shape[0])
        if data.dtype != dtype or data.shape != (last - first, *shape[1:]):
            raise ValueError(
                f"{self.folder.name}/{name}: rows of {data.dtype} {data.shape}, expected {dtype} "
                f"{(last - first, *shape[1:])}"
            )
        left = np.ascontiguousarray(data).data.cast("B")
        offset = first * self._row_bytes(name)
        while left:
            written = os.pwrite(self._open[name], left, offset)
            left, offset = left[written:], offset + written

    def rows(self, name: str, rows: slice | None = None) -> NDArray[Any]:
        """Rows of a plane (all without ``rows``) as they have been written so far, as a new array."""
        dtype, shape = self._layout[name]
        first, last, _ = (rows or slice(None)).indices(shape[0])
        out = np.empty((max(0, last - first), *shape[1:]), dtype)
        if out.size == 0:
            return out
        _read_into(self._open[name], out, first * self._row_bytes(name), self._aside / name)
        return out

    def commit(self, meta: Mapping[str, Any] | None = None) -> Path:
        """Checksum the planes, write the manifest with ``meta`` (JSON values) and name the folder."""
        manifest: dict[str, Any] = {"meta": dict(meta or {}), "planes": {}}
        for name, (dtype, shape) in self._layout.items():
            with (self._aside / name).open("rb", buffering=0) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            manifest["planes"][name] = {"dtype": dtype.str, "shape": list(shape), "sha256": digest}
        self._close()
        (self._aside / _MANIFEST).write_text(json.dumps(manifest))
        _replace(self.folder, self._aside)
        return self.folder

    def discard(self) -> None:
        """Remove what was written; without effect after `commit`."""
        self._close()
        shutil.rmtree(self._aside, ignore_errors=True)

    def _row_bytes(self, name: str) -> int:
        dtype, shape = self._layout[name]
        return dtype.itemsize * int(np.prod(shape[1:]))

    def _close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open = {}


def _replace(folder: Path, new: Path) -> None:
    """Give ``new`` the name ``folder``.

    The same planes that are there already stay: of two runs that make them at once, one may be reading them.
    """
    while True:
        try:
            new.rename(folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if _same(folder, new):
            shutil.rmtree(new, ignore_errors=True)
            return
        old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}")
        with suppress(FileNotFoundError):
            folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)


def _same(folder: Path, new: Path) -> bool:
    """Whether ``folder`` is whole and tells the same of its planes as ``new``."""
    try:
        alike = (folder / _MANIFEST).read_bytes() == (new / _MANIFEST).read_bytes()
    except FileNotFoundError:
        return False
    return alike and open_if_whole(folder) is not None


def _read_into(descriptor: int, out: NDArray[Any], offset: int, path: Path) -> None:
    """Fill ``out`` from ``offset`` of an open file."""
    left = out.data.cast("B") if out.size else memoryview(b"")
    while left:
        got = os.preadv(descriptor, [left], offset)
        if not got:
            raise OSError(f"{path} is shorter than its manifest says")
        left, offset = left[got:], offset + got


class Planes:
    """The planes of one scratch folder, opened for reading by rows.

    Parameters
    ----------
    folder
        A folder that `write_planes` made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = json.loads((folder / _MANIFEST).read_text())
        self.meta: dict[str, Any] = manifest["meta"]
        self._planes: dict[str, dict[str, Any]] = manifest["planes"]

    def __contains__(self, name: str) -> bool:
        return name in self._planes

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a plane."""
        return tuple(self._planes[name]["shape"])

    def rows(self, name: str, rows: slice | None = None) -> NDArray[Any]:
        """Rows of a plane (all without ``rows``) as a new array, read without mapping the file."""
        plane = self._planes[name]
        dtype, shape = np.dtype(plane["dtype"]), tuple(plane["shape"])
        first, last, _ = (rows or slice(None)).indices(shape[0])
        out = np.empty((max(0, last - first), *shape[1:]), dtype)
        self.read_into(name, first, out)
        return out

    def read_into(self, name: str, first: int, out: NDArray[Any]) -> None:
        """Fill ``out``, contiguous and of the plane's dtype and width, with rows from ``first`` on."""
        plane = self._planes[name]
        dtype, shape = np.dtype(plane["dtype"]), tuple(plane["shape"])
        if out.dtype != dtype or out.shape[1:] != shape[1:] or first + len(out) > shape[0]:
            raise ValueError(
                f"{self.folder.name}/{name} is {dtype} {shape}, asked for {out.dtype} {out.shape}"
            )
        row_bytes = dtype.itemsize * int(np.prod(shape[1:]))
        with (self.folder / name).open("rb", buffering=0) as file:
            _read_into(file.fileno(), out, first * row_bytes, self.folder / name)

    def whole(self) -> bool:
        """Whether every plane has the size and the sha256 of the manifest."""
        try:
            return all(
                hashlib.sha256((self.folder / name).read_bytes()).hexdigest() == plane["sha256"]
                for name, plane in self._planes.items()
            )
        except OSError:
            return False

    def sha256(self) -> str:
        """One checksum of all planes: the identity of the folder's pixels."""
        told = "".join(f"{name}:{p['sha256']};" for name, p in sorted(self._planes.items()))
        return hashlib.sha256(told.encode()).hexdigest()


def open_if_whole(folder: Path) -> Planes | None:
    """The planes of ``folder`` when they are all there and undamaged, otherwise None."""
    try:
        planes = Planes(folder)
    except (OSError, ValueError, KeyError):
        return None  # not there, or its manifest did not reach the disk before the power went
    return planes if planes.whole() else None


def scratch_size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what vanishes meanwhile counts for nothing."""
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        with suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def prune(entries: Iterable[Path], limit: int, *, before: float) -> list[Path]:
    """Remove the files and folders least lately used until those that stay take ``limit`` bytes or fewer.

    Parameters
    ----------
    entries
        Files and folders that can be made again; some may be gone.
    limit
        Bytes.
    before
        Time (seconds since the epoch) from which on what was used stays: another run may be at it.

    Returns
    -------
    list of Path
        What was removed.
    """
    used: dict[Path, float] = {}
    for entry in entries:
        with suppress(FileNotFoundError):
            used[entry] = entry.stat().st_mtime
    sizes = {entry: scratch_size(entry) for entry in used}
    total, removed = sum(sizes.values()), []
    for entry in sorted(used, key=lambda e: (used[e], e.name)):
        if total <= limit or used[entry] >= before:
            break
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
        total -= sizes[entry]
        removed.append(entry)
    return removed


def touch(path: Path) -> None:
    """Mark a file or folder as used now."""
    os.utime(path)

"""Planes passed between steps: a folder of native arrays that is complete or missing, read in bands of rows.

A step passes pixels to the next step in such a folder, never through the orchestrator. A folder is written
under a temporary name and renamed, contains the sha256 of each plane, and is verified before it is used. Planes of
flags are stored as runs (`imaging.pixels.flag_runs`).
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

from imaging.io.scratch.flag_bands import FlagBands
from imaging.io.scratch.plane_file import PlaneFile
from imaging.machine import writing_to
from imaging.pixels import flag_runs

_MANIFEST = "planes.json"
#: In the manifest of a folder whose planes were removed because no step needs them any more.
_RELEASED = "released"


def write_planes(
    folder: Path,
    planes: Mapping[str, NDArray[Any]],
    meta: Mapping[str, Any] | None = None,
    *,
    same: Mapping[str, Planes] | None = None,
) -> Path:
    """Write ``planes`` (name to array) and ``meta`` (JSON values) as ``folder``, completely or not at all.

    ``same`` are further planes, each as another folder has it. Scratch files can be made again, so they are not synced
    to the disk; the checksums reveal an incomplete write. An existing folder is replaced.
    """
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}")
    with writing_to(folder, sum(plane.nbytes for plane in planes.values())):
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside.mkdir()
        try:
            manifest: dict[str, Any] = {"meta": dict(meta or {}), "planes": {}}
            for name, plane in planes.items():
                manifest["planes"][name] = _written(aside / name, np.ascontiguousarray(plane))
            for name, source in (same or {}).items():
                _link(source.folder / name, aside / name)
                manifest["planes"][name] = source.entry(name)
            (aside / _MANIFEST).write_text(json.dumps(manifest))
            _replace(folder, aside)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    return folder


class PlanesWriter:
    """Planes of one scratch folder, written by rows in any order; the complete folder appears at `commit`.

    The files are created with their full size next to the folder, so threads may write different rows at the
    same time; planes of flags stay in memory as runs until `commit`. Without `commit` (an error, a `with` block
    that ends early) nothing is left behind.

    Parameters
    ----------
    folder
        Destination of the planes; an existing folder is replaced at `commit`.
    layout
        Name to (dtype, shape) of each plane.
    """

    def __init__(self, folder: Path, layout: Mapping[str, tuple[DTypeLike, tuple[int, ...]]]) -> None:
        self.folder = folder
        with writing_to(folder):
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}")
        self._planes = {
            name: PlaneFile(str(self._aside / name), np.dtype(dtype), tuple(shape))
            for name, (dtype, shape) in layout.items()
        }
        self._flags = {name: FlagBands() for name, plane in self._planes.items() if plane.dtype.kind == "u"}
        in_files = [plane for name, plane in self._planes.items() if name not in self._flags]
        with writing_to(folder, sum(plane.size for plane in in_files)):
            self._aside.mkdir()
            try:
                for plane in in_files:
                    with plane.opened(os.O_RDWR | os.O_CREAT | os.O_EXCL) as descriptor:
                        os.ftruncate(descriptor, plane.size)
            except BaseException:
                self.discard()
                raise

    def __enter__(self) -> PlanesWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def __contains__(self, name: str) -> bool:
        return name in self._planes

    def write(self, name: str, rows: slice, data: NDArray[Any]) -> None:
        """Write ``rows`` of a plane; ``data`` has the plane's dtype and the rows' shape."""
        plane = self._planes[name]
        first, shape = plane.extent(rows)
        if data.dtype != plane.dtype or data.shape != shape:
            raise ValueError(
                f"{self.folder.name}/{name}: rows of {data.dtype} {data.shape}, expected {plane.dtype} {shape}"
            )
        if name in self._flags:
            self._flags[name].write(first, data)
            return
        left = np.ascontiguousarray(data).data.cast("B")
        offset = first * plane.row_bytes
        # Opened for each band: a group has three planes for each frame, more than a process may keep open.
        with writing_to(self.folder, len(left)), plane.opened(os.O_WRONLY) as descriptor:
            while left:
                written = os.pwrite(descriptor, left, offset)
                left, offset = left[written:], offset + written

    def rows(self, name: str, rows: slice | None = None) -> NDArray[Any]:
        """Return rows of a plane (default: all) as written so far, as a new array."""
        plane = self._planes[name]
        first, shape = plane.extent(rows)
        out = np.empty(shape, plane.dtype)
        self.read_into(name, first, out)
        return out

    def read_into(self, name: str, first: int, out: NDArray[Any]) -> None:
        """Fill ``out``, contiguous and of the plane's dtype and width, with rows as written so far from ``first``."""
        (self._flags.get(name) or self._planes[name]).read_into(first, out)

    def commit(self, meta: Mapping[str, Any] | None = None) -> Path:
        """Checksum the planes, write the manifest with ``meta`` (JSON values) and rename the folder."""
        manifest: dict[str, Any] = {"meta": dict(meta or {}), "planes": {}}
        with writing_to(self.folder):
            for name, plane in self._planes.items():
                if name in self._flags:
                    manifest["planes"][name] = _written(self._aside / name, self.rows(name))
                    continue
                with (self._aside / name).open("rb", buffering=0) as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                manifest["planes"][name] = _described(plane.dtype, plane.shape, digest)
            (self._aside / _MANIFEST).write_text(json.dumps(manifest))
            _replace(self.folder, self._aside)
        return self.folder

    def discard(self) -> None:
        """Remove the written files; without effect after `commit`."""
        shutil.rmtree(self._aside, ignore_errors=True)


def _link(path: Path, new: Path) -> None:
    """Make a file appear under another name as well; copy it where the disk has no links. No file is ever changed."""
    try:
        new.hardlink_to(path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV):
            raise
        shutil.copyfile(path, new)


def _written(path: Path, data: NDArray[Any]) -> dict[str, Any]:
    """Write a plane, one of flags as runs; return its entry in the manifest."""
    packed = flag_runs.encode(data)
    content = data.data if packed is None else packed
    path.write_bytes(content)
    return _described(data.dtype, data.shape, hashlib.sha256(content).hexdigest(), packed is not None)


def _described(
    dtype: np.dtype[Any], shape: tuple[int, ...], sha256: str, packed: bool = False
) -> dict[str, Any]:
    """Return the entry of a plane in the manifest; ``packed`` planes are stored as runs."""
    entry = {"dtype": dtype.str, "shape": list(shape), "sha256": sha256}
    return entry | {"runs": True} if packed else entry


def _replace(folder: Path, new: Path) -> None:
    """Rename ``new`` to ``folder``.

    An existing folder with the same planes stays, because another run that made the same planes may be
    reading it.
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
    """Return whether ``folder`` is intact and its manifest describes the same planes as that of ``new``."""
    try:
        alike = (folder / _MANIFEST).read_bytes() == (new / _MANIFEST).read_bytes()
    except FileNotFoundError:
        return False
    return alike and open_if_intact(folder) is not None


class Planes:
    """The planes of one scratch folder, opened for reading by rows.

    Parameters
    ----------
    folder
        A folder made by `write_planes`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = json.loads((folder / _MANIFEST).read_text())
        self.meta: dict[str, Any] = manifest["meta"]
        self._planes: dict[str, dict[str, Any]] = manifest["planes"]
        self._files = {
            name: PlaneFile(
                str(folder / name), np.dtype(plane["dtype"]), tuple(plane["shape"]), bool(plane.get("runs"))
            )
            for name, plane in self._planes.items()
        }
        self.released = bool(manifest.get(_RELEASED))

    def __contains__(self, name: str) -> bool:
        return name in self._planes

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the planes."""
        return tuple(self._planes)

    def entry(self, name: str) -> dict[str, Any]:
        """Return the description of a plane in the manifest."""
        return dict(self._planes[name])

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a plane."""
        return self._files[name].shape

    def rows(self, name: str, rows: slice | None = None) -> NDArray[Any]:
        """Return rows of a plane (default: all) as a new array, read without mapping the file."""
        plane = self._files[name]
        first, shape = plane.extent(rows)
        out = np.empty(shape, plane.dtype)
        self.read_into(name, first, out)
        return out

    def read_into(self, name: str, first: int, out: NDArray[Any]) -> None:
        """Fill ``out``, contiguous and of the plane's dtype and width, with rows starting at ``first``."""
        plane = self._files[name]
        if out.dtype != plane.dtype or out.shape[1:] != plane.shape[1:] or first + len(out) > plane.shape[0]:
            raise ValueError(
                f"{self.folder.name}/{name} is {plane.dtype} {plane.shape}, requested as {out.dtype} {out.shape}"
            )
        plane.read_into(first, out)

    def every(self, name: str, step: int, first: int = 0) -> NDArray[Any]:
        """Return every ``step``-th row of a plane of numbers from ``first``, as a new array; no other row is read."""
        plane = self._files[name]
        wanted = range(first, plane.shape[0], step)
        out = np.empty((len(wanted), *plane.shape[1:]), plane.dtype)
        with plane.opened() as descriptor:
            for row, y in zip(out, wanted, strict=True):
                plane.fill(descriptor, row, y * plane.row_bytes)
        return out

    def intact(self) -> bool:
        """Return whether every plane has the size and sha256 of the manifest."""
        try:
            return all(
                hashlib.sha256((self.folder / name).read_bytes()).hexdigest() == plane["sha256"]
                for name, plane in self._planes.items()
            )
        except OSError:
            return False

    def sha256(self) -> str:
        """Return one checksum of all planes: the identity of the folder's pixels."""
        content = "".join(f"{name}:{p['sha256']};" for name, p in sorted(self._planes.items()))
        return hashlib.sha256(content.encode()).hexdigest()


def open_if_intact(folder: Path) -> Planes | None:
    """Return the planes of ``folder`` if they are complete and undamaged, otherwise None."""
    try:
        planes = Planes(folder)
    except (OSError, ValueError, KeyError):
        return None  # missing, or its manifest was lost in a power failure
    return planes if planes.intact() else None


def release(folder: Path) -> None:
    """Remove the planes of a folder and keep its manifest, with the figures of the step that made them.

    A later run knows from it what the step found, and makes the planes again only if it needs their pixels.
    """
    with suppress(FileNotFoundError):
        manifest = json.loads((folder / _MANIFEST).read_text())
        new = folder / f".{uuid.uuid4().hex[:12]}"
        new.write_text(json.dumps(manifest | {_RELEASED: True}))
        new.replace(folder / _MANIFEST)
        for name in manifest["planes"]:
            (folder / name).unlink(missing_ok=True)


def released(folder: Path) -> Planes | None:
    """Return the manifest of a folder whose planes were removed by `release`, otherwise None."""
    try:
        planes = Planes(folder)
    except (OSError, ValueError, KeyError):
        return None
    return planes if planes.released else None


def scratch_size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; files that disappear meanwhile count as 0."""
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        with suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def expendable(entries: Iterable[Path], limit: int, *, before: float) -> dict[Path, int]:
    """Return the least recently used files and folders without which the rest take at most ``limit`` bytes.

    Parameters
    ----------
    entries
        Files and folders that can be made again; some may be missing.
    limit
        Bytes.
    before
        Time (seconds since the epoch): entries used since then stay, because another run may be using them.

    Returns
    -------
    dict of Path to int
        Their sizes, bytes.
    """
    used: dict[Path, float] = {}
    for entry in entries:
        with suppress(FileNotFoundError):
            used[entry] = entry.stat().st_mtime
    sizes = {entry: scratch_size(entry) for entry in used}
    total, found = sum(sizes.values()), {}
    for entry in sorted(used, key=lambda e: (used[e], e.name)):
        if total <= limit or used[entry] >= before:
            break
        found[entry] = sizes[entry]
        total -= sizes[entry]
    return found


def prune(entries: Iterable[Path], limit: int, *, before: float) -> dict[Path, int]:
    """Remove what is `expendable`, and return what was removed, with its sizes."""
    removed = expendable(entries, limit, before=before)
    for entry in removed:
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return removed


def touch(path: Path) -> None:
    """Mark a file or folder as used now."""
    os.utime(path)

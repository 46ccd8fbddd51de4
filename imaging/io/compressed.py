"""Compressed files: recognised, read and unpacked.

The identity of a frame is the sha256 of its uncompressed bytes, so that ``x.fits`` and ``x.fits.bz2`` are one
frame. A tile-compressed ``x.fits.fz`` contains pixels and header cards but not the original bytes: it is
rewritten as a plain file (by astropy, in a separate process: `imaging.io.tiles`), and the sha256 of *that* is
its identity. It equals that of the original if the cards are unchanged, and is always the same for the same
``.fz``.

Before a file is unpacked, its unpacked size is compared with the limits of a frame or product
(`imaging.io.announced`), and only regular files are opened (`imaging.io.limits`).
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import logging
import os
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from imaging.errors import FrameError, NirflowError
from imaging.io.announced import Announced
from imaging.io.limits import check_size, opened
from imaging.io.tiles import NoRoomError, unpack_tiles
from imaging.machine import reason, remedy_of

log = logging.getLogger(__name__)

#: Supported compressions, by the suffix of the file's name.
COMPRESSIONS = (".gz", ".bz2", ".fz")
_CHUNK = 1 << 20


def compression(path: Path) -> str:
    """Return the suffix of the compression, or an empty string for a plain file."""
    return path.suffix if path.suffix in COMPRESSIONS else ""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of opening, decompressing and parsing ``path`` into a `FrameError` with a remedy.

    Parsers may raise anything for a file with false headers. Errors of nirflow pass unchanged, and so does a
    lack of memory, which may not be the fault of the file.
    """
    try:
        yield
    except (NirflowError, MemoryError):
        raise
    except FileNotFoundError:
        raise FrameError(path.name, f"no such file: {path}", remedy="Check the path.") from None
    except PermissionError:
        raise FrameError(
            path.name, f"no permission to read {path}", remedy=f"Make it readable: chmod u+r {path}"
        ) from None
    except IsADirectoryError:
        raise FrameError(path.name, f"{path} is a folder", remedy="Name the files in it.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise FrameError(
                path.name, f"could not be read: {error.strerror}", remedy="Check the disk and try again."
            ) from error
        problem = "the compressed data are damaged" if compression(path) else "could not be read"
        raise FrameError(path.name, f"{problem} ({error})", remedy="Fetch the file again.") from None
    except Exception as error:
        log.debug("%s cannot be read", path, exc_info=True)
        raise FrameError(
            path.name, f"the file is invalid ({type(error).__name__}: {error})",
            remedy="Fetch the file again or leave it out.",
        ) from error  # fmt: skip


def refuse_empty(path: Path) -> None:
    """Refuse an empty file with a message of its own."""
    if path.stat().st_size == 0:
        raise FrameError(path.name, "the file is empty (0 bytes)", remedy="Fetch the file again.")


@contextmanager
def open_stream(path: Path) -> Iterator[io.BufferedIOBase | io.RawIOBase]:
    """Open the uncompressed bytes of a plain, gzip or bzip2 file; not for ``.fz``.

    Their number is not limited: callers that read more than a little pass the bytes to `Announced`.
    """
    with opened(path) as file:
        refuse_empty(path)
        match compression(path):
            case ".gz":
                with gzip.open(file, "rb") as stream:
                    yield stream
            case ".bz2":
                with bz2.open(file, "rb") as stream:
                    yield stream
            case _:
                yield file


def digest(path: Path) -> str:
    """Return the sha256 of the uncompressed bytes of ``path``: the identity of a frame.

    Raises
    ------
    FrameError
        If the file is missing, unreadable or damaged.
    """
    with reading(path):
        if compression(path) == ".fz":
            with tempfile.TemporaryFile() as out:
                return _copy_tiles(path, out, Path(tempfile.gettempdir()))
        if compression(path):
            return _copy(path, None)
        return digest_as_is(path)


def unpack(path: Path, folder: Path) -> tuple[Path, str]:
    """Make sure that ``path`` exists uncompressed.

    Parameters
    ----------
    path
        A file, compressed or not.
    folder
        Folder for the unpacked file, ``<sha256>.fits``. A note next to it records the packed bytes, so that
        the same packed file is not decompressed again, whatever its name and date.

    Returns
    -------
    tuple of Path and str
        The plain file and the sha256 of its bytes. A plain ``path`` stays in place.

    Raises
    ------
    FrameError
        If the file is missing or unreadable, or its stream is damaged.
    NirflowError
        If ``folder`` cannot be written. No incomplete file is left behind.

    Notes
    -----
    Several threads and processes may unpack the same file at once: each writes the same bytes under a
    temporary name and renames the file.
    """
    if not compression(path):
        return path, digest(path)
    with reading(path):
        note = folder / f"{digest_as_is(path)}.json"
    if known := _noted(note, folder):
        return known
    aside = folder / f".{uuid.uuid4().hex}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        out = aside.open("w+b")
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        with out:
            sha256 = _copy_checked(path, out, folder)
        target = folder / f"{sha256}.fits"
        size = aside.stat().st_size
        aside.rename(target)
        aside.write_text(json.dumps({"sha256": sha256, "size": size}))
        aside.rename(note)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        aside.unlink(missing_ok=True)
    return target, sha256


def unpacked_descriptor(path: Path) -> int:
    """Return a descriptor of an unnamed temporary file with the uncompressed bytes of the packed ``path``."""
    with tempfile.TemporaryFile() as out:
        _copy_checked(path, out, Path(tempfile.gettempdir()))
        return os.dup(out.fileno())


def _copy_checked(path: Path, out: IO[bytes], folder: Path) -> str:
    """Decompress ``path`` to ``out``, synced; errors of reading and of writing recorded apart."""
    sink = _Sink(out, folder)
    with reading(path):
        sha256 = _copy_tiles(path, out, folder) if compression(path) == ".fz" else _copy(path, sink)
    sink.sync()
    return sha256


class _Sink:
    """An output file whose errors name the folder, not the frame that is being read."""

    def __init__(self, out: IO[bytes], folder: Path) -> None:
        self.out, self.folder = out, folder

    def write(self, data: bytes | memoryview) -> None:
        try:
            self.out.write(data)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def sync(self) -> None:
        try:
            self.out.flush()
            os.fsync(self.out.fileno())
        except OSError as error:
            raise _unwritable(self.folder, error) from error


def digest_as_is(path: Path) -> str:
    """Return the sha256 of the stored bytes of a file, packed or not."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        check_size(path.name, size)
        # A file without a size may have no end: a file of the kernel.
        return hashlib.file_digest(file if size else io.BytesIO(), "sha256").hexdigest()


def _copy(path: Path, sink: _Sink | None) -> str:
    """Decompress ``path``, but not more than its headers announce or the limits allow."""
    sha256, announced = hashlib.sha256(), Announced(path.name)
    buffer = memoryview(bytearray(_CHUNK))
    with open_stream(path) as stream:
        while n := stream.readinto(buffer):
            announced.take(buffer[:n])
            sha256.update(buffer[:n])
            if sink:
                sink.write(buffer[:n])
    return sha256.hexdigest()


def _copy_tiles(path: Path, out: IO[bytes], folder: Path) -> str:
    """Write a tile-compressed file to the empty file ``out`` as plain FITS; return its sha256."""
    with opened(path) as file:
        try:
            unpack_tiles(file, out.fileno(), path.name)
        except NoRoomError as error:
            raise _unwritable(folder, error) from error
    out.seek(0)
    return hashlib.file_digest(io.FileIO(out.fileno(), closefd=False), "sha256").hexdigest()


def _noted(note: Path, folder: Path) -> tuple[Path, str] | None:
    """Return the file that an earlier unpacking of the same packed bytes left, if it is still complete."""
    try:
        recorded = json.loads(note.read_text())
        target = folder / f"{recorded['sha256']}.fits"
        return (target, recorded["sha256"]) if target.stat().st_size == recorded["size"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no note, or an invalid one: unpack again


def _unwritable(folder: Path, error: OSError) -> NirflowError:
    return NirflowError(
        f"Could not write to {folder}: {reason(folder, error)}.",
        remedy=remedy_of(error, "Make that folder writable, or choose another."),
    )

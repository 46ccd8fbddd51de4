"""Compressed files: recognised by their bytes, read and unpacked.

Names are often wrong about compression, and the name of a link's target has nothing to do with it: an ``x.fits`` may
be a gzip stream, an ``x.fits.gz`` a plain file.

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
import errno
import gzip
import hashlib
import io
import json
import logging
import lzma
import os
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from imaging.errors import FrameError, NirflowError
from imaging.io.announced import Announced
from imaging.io.fitsfile import BLOCK, end_of_header
from imaging.io.limits import check_size, opened
from imaging.io.tiles import NoRoomError, unpack_tiles
from imaging.machine import reason, remedy_of

log = logging.getLogger(__name__)

#: Compressions of a complete file, by the usual suffix, and the bytes at its start.
STREAMS: Final = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00"}
#: FITS files whose pixels are compressed in tiles.
TILES: Final = ".fz"
#: Enough for the primary header of a tile-compressed file and the start of the next.
_HEAD: Final = 16 * BLOCK
#: Memory that unpacking xz may take: that of its highest level is 65 MiB.
_XZ_MEMORY: Final = 128 << 20
#: Text of the error of lzma for an intact stream that takes more.
_TOO_MUCH_MEMORY: Final = "Memory usage limit"
_CHUNK = 1 << 20


def compression(path: Path) -> str:
    """Return how a file is compressed, by its bytes: ``.gz``, ``.bz2``, ``.xz``, ``.fz``, or empty for a plain file.

    Without any such bytes the name decides, and reading the file reports the problem.
    """
    try:
        with opened(path) as file:
            head = file.read(_HEAD)
    except (OSError, FrameError):
        head = b""
    for suffix, start in STREAMS.items():
        if head.startswith(start):
            return suffix
    if head.startswith(b"SIMPLE"):
        return TILES if _in_tiles(head, path.name) else ""
    suffix = path.suffix.lower()
    return suffix if suffix in (*STREAMS, TILES) else ""


def _in_tiles(head: bytes, name: str) -> bool:
    """Return whether a FITS file has a compressed image as its first extension.

    One that is named so counts as compressed unless it has a plain image there.
    """
    second = head[-(-end_of_header(head) // BLOCK) * BLOCK :]
    if name.lower().endswith(TILES):
        return not second.startswith(b"XTENSION= 'IMAGE")
    return second.startswith(b"XTENSION= 'BINTABLE'") and b"ZIMAGE  =" in second


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
        if path.is_symlink():
            raise FrameError(
                path.name, f"a link to a missing file: {path.readlink()}",
                remedy="Restore that file (in an annex: git annex get), or remove the link.",
            ) from None  # fmt: skip
        raise FrameError(path.name, f"no such file: {path}", remedy="Check the path.") from None
    except PermissionError:
        raise FrameError(
            path.name, f"no permission to read {path}", remedy=f"Make it readable: chmod u+r {path}"
        ) from None
    except IsADirectoryError:
        raise FrameError(path.name, f"{path} is a folder", remedy="Name the files in it.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            raise FrameError(
                path.name,
                "a link that leads back to itself",
                remedy="Remove it, or correct where it points to.",
            ) from error
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
    """Open the uncompressed bytes of a plain, gzip, bzip2 or xz file; not for ``.fz``.

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
            case ".xz":
                yield io.BufferedReader(_XzStream(file, path.name), BLOCK)
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
        packed = compression(path)
        if packed == TILES:
            with tempfile.TemporaryFile() as out:
                return _copy_tiles(path, out, Path(tempfile.gettempdir()))
        return _copy(path, None) if packed else digest_as_is(path)


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
        sha256 = _copy_tiles(path, out, folder) if compression(path) == TILES else _copy(path, sink)
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


class _XzStream(io.RawIOBase):
    """The uncompressed bytes of an xz file, unpacked within a limit of memory."""

    def __init__(self, file: IO[bytes] | io.FileIO, name: str) -> None:
        self._file, self._name = file, name
        self._decompressor = self._new()
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; return 0 at the end of the file."""
        while True:
            if self._decompressor.eof:
                # Streams may follow each other, with zeros between them.
                self._left = self._decompressor.unused_data.lstrip(b"\0")
                while not self._left and (more := self._file.read(_CHUNK)):
                    self._left = more.lstrip(b"\0")
                if not self._left:
                    return 0
                self._decompressor = self._new()
            elif self._decompressor.needs_input:
                self._left = self._file.read(_CHUNK)
                if not self._left:
                    raise EOFError("the stream ends before its end marker")
            data = self._next(len(buffer))
            self._left = b""
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _next(self, size: int) -> bytes:
        try:
            return self._decompressor.decompress(self._left, size)
        except lzma.LZMAError as error:
            if _TOO_MUCH_MEMORY not in str(error):
                raise
            raise FrameError(
                self._name,
                f"unpacking it takes more than {_XZ_MEMORY >> 20} MiB of memory: its dictionary is too large",
                remedy="Unpack it with xz -d, and compress it again with xz -6.",
            ) from None  # fmt: skip

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


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

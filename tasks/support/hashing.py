"""Checksums of raw frames taken while they are read, so that a product is made from what its records name.

The survey trusts a file with the size and last change that the store has seen. Steps that read pixels do not: they
hash the bytes at the same time, and discard work on bytes that are not those of the surveyed frame.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imaging.errors import FrameError
from imaging.io.limits import opened
from tasks.support.references import RawFrame
from tasks.support.workspace import Workspace

_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class _Checked:
    """The state of a file when its bytes were verified as those of the frame."""

    signature: tuple[int, ...]
    md5: str


_checked: Final[dict[tuple[Path, str], _Checked]] = {}
_lock: Final = threading.Lock()


@contextmanager
def hashed(frames: Sequence[RawFrame], workspace: Workspace) -> Iterator[Callable[[], list[str]]]:
    """Hash frames while the block reads them.

    Yields
    ------
    callable
        Returns the md5 sum of each frame, as DRAGONS' provenance requires. Call it after reading and before
        keeping any result. It raises a `FrameError` if a file does not hold the bytes of the surveyed frame;
        the store then no longer trusts the file's size and date, and the next run examines it again.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as pool:
        # Hashing releases the interpreter's lock while the kernels run.
        first = pool.submit(lambda: [_check(frame, workspace) for frame in frames])

        def md5_sums() -> list[str]:
            first.result()
            return [_check(frame, workspace).md5 for frame in frames]  # hashed again if touched since

        yield md5_sums


def _check(frame: RawFrame, workspace: Workspace) -> _Checked:
    path = workspace.readable(frame)
    key, signature = (path, frame.sha256), _signature(path, frame)
    with _lock:
        known = _checked.get(key)
    if known is not None and known.signature == signature:
        return known
    sha256, md5 = _digests(path)
    if sha256 != frame.sha256:
        workspace.store().frames.distrust(frame.source)
        raise FrameError(
            frame.name, f"{frame.source} holds other bytes than the frame that the store knows by its size and date",
            remedy="Run the reduction again: the file is then examined again.",
        )  # fmt: skip
    checked = _Checked(signature, md5)
    with _lock:
        _checked[key] = checked
    return checked


def _signature(path: Path, frame: RawFrame) -> tuple[int, ...]:
    """Return what changes with every write to the file; nobody can set the time of the last change (ctime)."""
    about = path.stat()
    if path != frame.source:  # our own copy, named after its checksum: its date is the time of its last use
        return (about.st_size,)
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _digests(path: Path) -> tuple[str, str]:
    """Return the sha256 and md5 of a file, read once."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    buffer = memoryview(bytearray(_CHUNK))
    with opened(path) as file:
        while n := file.readinto(buffer):
            sha256.update(buffer[:n])
            md5.update(buffer[:n])
    return sha256.hexdigest(), md5.hexdigest()

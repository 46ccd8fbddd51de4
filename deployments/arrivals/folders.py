"""The watched folders: the files in them, and the changes that the kernel reports."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from watchfiles import Change, watch
from watchfiles.main import FileChange

from deployments.arrivals.landing import Signature, signature
from imaging.frames.file_names import HIDDEN, UNFINISHED, is_frame_name
from imaging.frames.find_files import walk
from imaging.listed import listed
from imaging.network_disks import network_disk

log = logging.getLogger(__name__)

#: Kind of a link to a file that does not exist, named like a frame.
_MISSING: Final = "links to missing files"
#: How long watchfiles collects changes, and how often it returns without any, ms.
_DEBOUNCE, _STEP, _TURN = 300, 50, 500


def need_polling(folders: Sequence[Path]) -> bool:
    """Return whether the folders must be polled, as the kernel does not report all changes in them."""
    kinds = {folder: network_disk(folder) for folder in folders}
    for folder, kind in kinds.items():
        if kind:
            log.info("%s is on %s: it will be scanned for new frames.", folder, kind)
    return any(kinds.values())


class Scanner:
    """A search for files that may be frames; each problem with a folder and each file passed over is logged once."""

    def __init__(self) -> None:
        self._warned: set[str] = set()
        self._passed: set[str] = set()

    def find(self, folder: str) -> Iterator[tuple[str, Signature]]:
        """Yield every file named like a frame in the folder and below, with its current size and date.

        Which files these are, and which folders are searched: `imaging.frames.find_files.walk`.
        """
        passed: dict[str, list[str]] = {}
        failed: set[str] = set()

        def fail(path: str, error: OSError) -> None:
            failed.add(path)
            self._warn_once(path, error)

        for path, kind in walk(folder, recursive=True, failed=fail):
            try:
                found = signature(path) if kind == "" else None
            except OSError as error:
                fail(path, error)
                continue
            if found is not None:
                yield path, found
            elif path not in self._passed:
                passed.setdefault(kind or _MISSING, []).append(path)
        self._warned -= {path for path in self._warned if Path(path).is_relative_to(folder)} - failed
        for kind, paths in passed.items():
            self._passed.update(paths)
            names = [os.path.relpath(path, folder) for path in paths]
            level = logging.DEBUG if kind in (HIDDEN, UNFINISHED) else logging.INFO
            what = f"{len(names)} {kind}: {listed(names)}"
            log.log(level, "Passed over in %s, %s.", shown(folder), shown(what))

    def changed(self, path: str, folders: Iterable[Path]) -> Iterator[tuple[str, Signature]]:
        """Yield what a path that the kernel reported adds to the files: itself, or those in a new folder.

        Parameters
        ----------
        path
            A path that appeared or changed.
        folders
            The watched folders.
        """
        path = str(Path(path))
        if hidden(path, folders):
            return
        if is_frame_name(Path(path).name):
            try:
                found = signature(path)
            except OSError as error:
                log.debug("%s: %s", shown(path), error)  # a scan will find it again
                return
            if found is not None:
                yield path, found
                return
        if not Path(path).name.startswith(".") and Path(path).is_dir():
            # Files may have arrived in a new folder before the kernel began to report its changes.
            yield from self.find(path)

    def _warn_once(self, path: str, error: OSError) -> None:
        if path not in self._warned:
            self._warned.add(path)
            log.warning("%s cannot be read: %s.", shown(path), error.strerror or error)


class Notices:
    """The changes in folders that the kernel reports, collected by a thread until they are taken.

    Parameters
    ----------
    folders
        Absolute paths. A missing folder is waited for.
    wake
        Set when there is something to take.
    retry
        Seconds until watching is retried after a failure.

    Attributes
    ----------
    seeing
        Whether changes in all folders are being reported. While False, scan.
    """

    def __init__(self, folders: Sequence[Path], wake: threading.Event, *, retry: float = 5.0) -> None:
        self.seeing = False
        self._folders, self._wake, self._retry = folders, wake, retry
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self._blind = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start to collect."""
        self._thread = threading.Thread(target=self._collect, name="notices", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self.seeing = False

    def take(self) -> tuple[set[str], bool]:
        """Return the paths that appeared or changed since the last call, and whether some may be missing."""
        with self._lock:
            paths, self._paths = self._paths, set()
            blind, self._blind = self._blind, False
        return paths, blind

    def _collect(self) -> None:
        logged = ""
        while not self._ended.is_set():
            try:
                self._watch()
                logged = ""
            # watchfiles fails on a name that is not UTF-8, and if the kernel has no watches left.
            except (OSError, RuntimeError) as error:
                if str(error) != logged:
                    log.warning("Watching folders failed: %s. They are scanned meanwhile.", shown(str(error)))
                logged = str(error)
            self.seeing = False
            with self._lock:
                self._blind = True
            self._wake.set()
            self._ended.wait(self._retry)

    def _watch(self) -> None:
        """Collect until the watch ends, or a folder is replaced."""
        watched = _identities(self._folders)
        turns = watch(
            *self._folders, watch_filter=None, debounce=_DEBOUNCE, step=_STEP, rust_timeout=_TURN,
            yield_on_timeout=True, stop_event=self._ended, raise_interrupt=False, force_polling=False,
            ignore_permission_denied=True,
        )  # fmt: skip
        with contextlib.closing(turns):
            self._listen(turns, watched)

    def _listen(self, turns: Iterable[set[FileChange]], watched: object) -> None:
        for changes in turns:
            paths = {path for change, path in changes if change != Change.deleted}
            with self._lock:
                self._paths |= paths
                # Only a scan finds files from before the watch began, or from the gap since an earlier one.
                self._blind |= not self.seeing
            if paths or not self.seeing:
                self.seeing = True
                self._wake.set()
            if _identities(self._folders) != watched:
                return


def _identities(folders: Iterable[Path]) -> list[tuple[int, int]]:
    """Return device and inode of each folder, which differ after it is created again or mounted."""
    return [(about.st_dev, about.st_ino) for about in map(Path.stat, folders)]


def hidden(path: str, folders: Iterable[Path]) -> bool:
    """Return whether the path from a watched folder to the file contains a hidden folder."""
    inside = [Path(path).relative_to(folder) for folder in folders if Path(path).is_relative_to(folder)]
    return bool(inside) and all(any(part.startswith(".") for part in way.parts[:-1]) for way in inside)


def shown(path: str) -> str:
    """Return a path in printable form for the log."""
    return repr(path)[1:-1]

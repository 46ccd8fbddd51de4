"""The folders that frames come to: what is in them, and what the kernel tells of them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from watchfiles import Change, watch
from watchfiles.main import FileChange

from deployments.arrivals.landing import Signature, is_frame_name

log = logging.getLogger(__name__)

#: File systems where other machines make changes that this kernel does not tell of (mountinfo's names).
_NETWORK: Final = re.compile(
    r"nfs\d*|cifs|smb\d*|smbfs|lustre|gpfs|beegfs(_\w+)?|ceph|glusterfs|afs|pvfs2|orangefs|ocfs2|gfs2|9p"
    r"|vboxsf|vmhgfs|prl_fs|virtiofs|fuse(\..+|ctl)?|fuseblk"
)
_MOUNTS: Final = Path("/proc/self/mountinfo")
#: How long watchfiles collects changes, and how often it comes back without any, ms.
_DEBOUNCE, _STEP, _TURN = 300, 50, 500


def unseen_changes(folder: Path, mounts: str) -> str | None:
    """The network file system that a folder is on, or that is mounted below it; None where there is none.

    Parameters
    ----------
    folder
        Absolute, links resolved.
    mounts
        Text of ``/proc/self/mountinfo`` (proc(5)).
    """
    on, depth = "", -1
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        if not right:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), left.split(" ")[4]))
        kind = right.split(" ")[0]
        if point != folder and point.is_relative_to(folder):
            if _NETWORK.fullmatch(kind):
                return kind
        elif folder.is_relative_to(point) and len(point.parts) >= depth:
            on, depth = kind, len(point.parts)
    return on if _NETWORK.fullmatch(on) else None


def need_polling(folders: Sequence[Path]) -> bool:
    """Whether the kernel does not tell of all changes in the folders."""
    mounts = _MOUNTS.read_text(errors="surrogateescape")
    kinds = {folder: unseen_changes(folder, mounts) for folder in folders}
    for folder, kind in kinds.items():
        if kind:
            log.info("%s is on %s: it is scanned for new frames.", folder, kind)
    return any(kinds.values())


class Scanner:
    """Finds the files in folders that may be frames; each trouble with a folder is told once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def find(self, folder: str) -> Iterator[tuple[str, Signature]]:
        """Every file of a frame's name in the folder and below, with what it is like now.

        Links to folders are followed, each folder once. Hidden folders are left out: copying programs
        keep unfinished files there.
        """
        visited: set[tuple[int, int]] = set()
        left = [folder]
        while left:
            here = left.pop()
            try:
                about = Path(here).stat()
                if (about.st_dev, about.st_ino) in visited:
                    continue
                visited.add((about.st_dev, about.st_ino))
                with os.scandir(here) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                self._tell(here, error)
                continue
            self._told.discard(here)
            for entry in entries:
                try:
                    if is_frame_name(entry.name):
                        found = entry.stat()
                        if stat.S_ISREG(found.st_mode):
                            yield entry.path, Signature(found.st_size, found.st_mtime_ns)
                            continue
                    if not entry.name.startswith(".") and entry.is_dir():
                        left.append(entry.path)
                except FileNotFoundError:
                    continue  # gone since, or a link to nothing
                except OSError as error:
                    self._tell(entry.path, error)

    def _tell(self, path: str, error: OSError) -> None:
        if path not in self._told:
            self._told.add(path)
            log.warning("%s cannot be looked at: %s.", shown(path), error.strerror or error)


class Notices:
    """What the kernel tells of folders, collected by a thread until it is asked for.

    Parameters
    ----------
    folders
        Absolute. One that is not there yet is waited for.
    wake
        Set when there is something to ask for.
    retry
        Seconds until watching is tried again after it failed.

    Attributes
    ----------
    seeing
        Whether changes in all folders are being told. While not, scan.
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
        """Begin to collect."""
        self._thread = threading.Thread(target=self._collect, name="notices", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self.seeing = False

    def take(self) -> tuple[set[str], bool]:
        """Paths where something appeared or changed since the last time, and whether some may be missing."""
        with self._lock:
            paths, self._paths = self._paths, set()
            blind, self._blind = self._blind, False
        return paths, blind

    def _collect(self) -> None:
        told = ""
        while not self._ended.is_set():
            try:
                self._watch()
                told = ""
            # watchfiles ends at a name that is not UTF-8, and where the kernel has no watches left.
            except (OSError, RuntimeError) as error:
                if str(error) != told:
                    log.warning(
                        "Changes of folders are not told: %s. They are scanned meanwhile.", shown(str(error))
                    )
                told = str(error)
            self.seeing = False
            with self._lock:
                self._blind = True
            self._wake.set()
            self._ended.wait(self._retry)

    def _watch(self) -> None:
        """Collect until the watch ends, or a folder is another one than it was."""
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
                # What came before the watch began, or was lost with an earlier one, only a scan finds.
                self._blind |= not self.seeing
            if paths or not self.seeing:
                self.seeing = True
                self._wake.set()
            if _identities(self._folders) != watched:
                return


def _identities(folders: Iterable[Path]) -> list[tuple[int, int]]:
    """Device and number of each folder: another one after it was made anew or mounted."""
    return [(about.st_dev, about.st_ino) for about in map(Path.stat, folders)]


def hidden(path: str, folders: Iterable[Path]) -> bool:
    """Whether a hidden folder is on the way from a watched folder to the file."""
    inside = [Path(path).relative_to(folder) for folder in folders if Path(path).is_relative_to(folder)]
    return bool(inside) and all(any(part.startswith(".") for part in way.parts[:-1]) for way in inside)


def shown(path: str) -> str:
    """A path for a line of the log, whatever its bytes are."""
    return repr(path)[1:-1]

"""Product files at a URL that fsspec understands (``s3://bucket/prefix``), with a verified copy on this machine.

An object is uploaded under a temporary name, read back and verified, and only then gets its name. Readers get a copy in
the cache folder, verified when it is downloaded and at every later use.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec

from calib_store.files.local_objects import LocalObjects
from calib_store.files.objects import (
    MARKER,
    QUARANTINE,
    Condition,
    Found,
    ObjectStore,
    StoredObject,
    file_sha256,
    object_name,
)
from imaging.errors import StoreError
from imaging.io.planes import prune

logger = logging.getLogger(__name__)

#: Folder of the cache for copies that are being downloaded.
_COMING = "coming"
#: Protocols of bucket storage.
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
#: A cached copy that was used this recently is kept whatever the size of the cache, as a step may be reading it, s.
_GRACE = 3600.0


class RemoteObjects(ObjectStore):
    """Objects at a URL.

    Parameters
    ----------
    url
        Where they are. Keys and endpoints come from the sources of the protocol's own tools
        (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``~/.aws``), never from the URL.
    cache
        Folder of the copies on this machine.
    cache_limit
        Most bytes of the copies; the least recently used are removed first.

    Raises
    ------
    StoreError
        If the URL's protocol is not known, or its package is not installed.
    """

    def __init__(self, url: str, cache: Path, *, cache_limit: int) -> None:
        parts = urlsplit(url)
        if parts.username or parts.password:
            raise StoreError(
                f"The URL of the objects ({parts.scheme}://...) holds a user name or password.",
                remedy="Leave them out of NIRFLOW_OBJECTS_URL; provide them as for the protocol's own tools.",
            )
        self.url = url.rstrip("/")
        self.cache = LocalObjects(cache)
        self.cache_limit = cache_limit
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise StoreError(
                f"Objects cannot be kept at {self.place}: {error}.",
                remedy="Correct NIRFLOW_OBJECTS_URL, or install what the protocol needs (pip install 'nirflow[s3]').",
            ) from error
        self._root = root.rstrip("/")

    @property
    def place(self) -> str:
        """The URL."""
        return self.url

    def prepare(self) -> None:
        """Check that the place answers; a bucket must exist."""
        with self._explained("reached"):
            bucket = self._root.partition("/")[0]
            if self._in_buckets and not self._fs.exists(bucket):
                raise StoreError(
                    f"The bucket {bucket!r} of the objects at {self.place} does not exist or is not accessible.",
                    remedy="Create the bucket, or correct NIRFLOW_OBJECTS_URL.",
                )
            self._make_folder(self._root)

    def put(self, path: Path, *, move: bool = False) -> StoredObject:
        """Add a file: uploaded under a temporary name, read back, renamed; a copy is kept in the cache."""
        try:
            sha256, size = file_sha256(path), path.stat().st_size
        except OSError as error:
            raise StoreError(
                f"{path.name} cannot be put into the store: {error.strerror or error}.",
                remedy="Check that the file exists and can be read.",
            ) from error
        if not (self.exists(sha256) and self.verify(sha256)):
            self._upload(path, sha256)
        self.cache.put(path, move=move)
        self._prune()
        return StoredObject(sha256, size)

    def _upload(self, path: Path, sha256: str) -> None:
        aside = f"{self._root}/{sha256[:2]}/.{sha256}.{uuid.uuid4().hex[:12]}"
        with self._explained("written", missing=True):
            self._make_folder(aside.rpartition("/")[0])
            try:
                self._fs.put_file(str(path), aside)
                if self._digest(aside) != sha256:
                    raise StoreError(
                        f"{path.name} changed while it was put into the store, or {self.place} stores wrong data.",
                        remedy="Try again; if it fails again, check the storage.",
                    )
                self._fs.mv(aside, self._path(sha256))
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(aside)
                raise

    def verify(self, sha256: str) -> bool:
        """Return whether there is an intact copy here, or one could be fetched."""
        if self.cache.verify(sha256):
            return True
        if not self._fetch(sha256):
            return False
        self._prune()
        return True

    def local(self, sha256: str) -> Path:
        """Return the path of the copy."""
        self.require(sha256)
        self.cache.touch(sha256)
        return self.cache.path(sha256)

    def examine(self, sha256: str) -> Condition:
        """Return the actual condition of the bytes at the URL; the local copy does not count."""
        with self._explained("read"):
            try:
                return "intact" if self._digest(self._path(sha256)) == sha256 else "damaged"
            except FileNotFoundError:
                return "missing"

    def exists(self, sha256: str) -> bool:
        """Return whether an object of that name exists at the URL."""
        with self._explained("read"):
            return bool(self._fs.isfile(self._path(sha256)))

    def heal(self, sha256: str) -> bool:
        """Replace a missing or damaged object by an intact copy from the cache, and return whether there was one."""
        if not self.cache.verify(sha256):
            return False
        self._upload(self.cache.path(sha256), sha256)
        return True

    def objects(self) -> Iterator[Found]:
        """Yield every object."""
        for place, info in self._listed():
            name = place.rpartition("/")[2].removesuffix(".fits")
            if len(name) == 64 and place == object_name(name):
                yield self._found(place, info, name)

    def read_marker(self) -> bytes | None:
        """Return the marker's content."""
        with self._explained("read"):
            try:
                return bytes(self._fs.cat_file(f"{self._root}/{MARKER}"))
            except FileNotFoundError:
                return None

    def write_marker(self, content: bytes) -> None:
        """Write the marker; every process of a store writes the same."""
        with self._explained("written", missing=True):
            self._make_folder(self._root)
            self._fs.pipe_file(f"{self._root}/{MARKER}", content)

    def leftovers(self) -> Iterator[Found]:
        """Yield unfinished files, and those that were found damaged."""
        for place, info in self._listed():
            if place.startswith(f"{QUARANTINE}/") or place.rpartition("/")[2].startswith("."):
                yield self._found(place, info, None)

    def renewed(self, found: Found) -> Found | None:
        """Return the current state of a file."""
        with self._explained("read"):
            try:
                return self._found(found.place, self._fs.info(f"{self._root}/{found.place}"), found.sha256)
            except FileNotFoundError:
                return None

    def remove(self, found: Found) -> None:
        """Remove a file."""
        with self._explained("changed"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{found.place}")

    @property
    def _in_buckets(self) -> bool:
        names = self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        return not _BUCKETS.isdisjoint(names)

    def _make_folder(self, path: str) -> None:
        # Bucket storage has no folders, and one level too high would create a bucket.
        if not self._in_buckets:
            self._fs.makedirs(path, exist_ok=True)

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{object_name(sha256)}"

    def _digest(self, path: str) -> str:
        sha256 = hashlib.sha256()
        with self._fs.open(path, "rb") as file:
            while chunk := file.read(8 << 20):
                sha256.update(chunk)
        return sha256.hexdigest()

    def _fetch(self, sha256: str) -> bool:
        """Fetch a copy into the cache, and return whether it is intact; a damaged object is set aside."""
        source = self._path(sha256)
        folder = self.cache.root / _COMING
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / uuid.uuid4().hex
        with self._explained("read"):
            try:
                self._fs.get_file(source, str(aside))
                if file_sha256(aside) != sha256:
                    self._set_aside(sha256)
                    return False
                self.cache.put(aside, move=True)
            except FileNotFoundError:
                return False
            finally:
                aside.unlink(missing_ok=True)
        return True

    def _set_aside(self, sha256: str) -> None:
        target = f"{self._root}/{QUARANTINE}/{sha256}.fits.{uuid.uuid4().hex[:12]}"
        try:
            self._make_folder(target.rpartition("/")[0])
            self._fs.mv(self._path(sha256), target)
        except FileNotFoundError:
            return  # another process was quicker
        except Exception as error:  # noqa: BLE001  # read-only, by any protocol's error: it is still not used
            logger.error(
                "Object %s is damaged: its bytes are not those of its name. It cannot be moved to %s: %s",
                sha256, target, error,
            )  # fmt: skip
            return
        logger.error("Object %s is damaged: its bytes are not those of its name; moved to %s", sha256, target)

    def _listed(self) -> Iterator[tuple[str, dict[str, Any]]]:
        with self._explained("listed"):
            self._fs.invalidate_cache()
            found = self._fs.find(self._root, detail=True) if self._fs.exists(self._root) else {}
        for path, info in sorted(found.items()):
            yield path.removeprefix(self._root).lstrip("/"), info

    def _found(self, place: str, info: dict[str, Any], sha256: str | None) -> Found:
        moment = info.get("LastModified") or info.get("created") or info.get("mtime") or time.time()
        since = moment.timestamp() if hasattr(moment, "timestamp") else float(moment)
        return Found(place, int(info.get("size") or 0), since, sha256)

    def _prune(self) -> None:
        """Keep the copies within their limit; remove files left by killed processes, and damaged copies."""
        root, before = self.cache.root, time.time() - _GRACE
        prune((root / found.place for found in self.cache.objects()), self.cache_limit, before=before)
        prune([root / found.place for found in self.cache.leftovers()], 0, before=before)
        prune(root.glob(f"{_COMING}/*"), 0, before=before)

    @contextlib.contextmanager
    def _explained(self, doing: str, *, missing: bool = False) -> Iterator[None]:
        """Turn any exception of the protocol's package into an error with a remedy.

        A missing object is not an error unless ``missing`` is true.
        """
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # each protocol has its own errors
            if isinstance(error, FileNotFoundError) and not missing:
                raise
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise StoreError(
                f"The objects at {self.place} cannot be {doing}: {why.rstrip('.')}.",
                remedy="Check that the storage is up, that this account may use it, and that it has room.",
            ) from error

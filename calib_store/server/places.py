"""The database and the place of the files that the settings name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from calib_store.files.local_objects import LocalObjects
from calib_store.files.objects import ObjectStore
from calib_store.model.settings import StoreSettings
from calib_store.private import tighten_data_folder
from calib_store.server import postgres
from calib_store.tables.database import Database


def open_database(settings: StoreSettings) -> Database:
    """Return the database of the settings; an embedded one is started, also after it was killed."""
    tighten_data_folder(settings.data_dir.expanduser())
    if settings.database_url is not None:
        return Database(settings.database_url.get_secret_value())
    address = postgres.ensure_running(settings.data_dir)
    return Database(address.url("nirflow"), revive=lambda: postgres.revive(settings.data_dir))


def objects_of(settings: StoreSettings) -> ObjectStore:
    """Return the place of the files that the settings name."""
    url = settings.objects_url
    if url is None:
        return LocalObjects(settings.objects_dir.expanduser().absolute())
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return LocalObjects(Path(unquote(parts.path) if parts.scheme else url).expanduser().absolute())
    from calib_store.files.remote import RemoteObjects  # imports fsspec, which is needed only here

    cache = settings.data_dir.expanduser().absolute() / "cache"
    return RemoteObjects(url, cache, cache_limit=settings.cache_limit)

"""Which store the files at a place belong to: checked before a file is added, recorded as lost, or removed.

A disk that is not mounted looks as if all its files were lost, and another store's place looks full of orphans.
Therefore a store writes its identity into its place (``store.json``) with its first file. A place without that marker,
from an earlier nirflow, is accepted as the store's own if it holds any of the store's files.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Sequence
from datetime import UTC
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Connection, select, text

from calib_store.files.objects import MARKER, ObjectStore
from calib_store.tables.database import Database
from calib_store.tables.schema import products
from imaging.errors import StoreError

logger = logging.getLogger(__name__)

#: Number of newest products whose files show whether the place is complete.
_SAMPLE = 20
#: Number of files that may be missing without doubt about the place, whatever the number of products.
FEW = 2


class StoreMarker(BaseModel):
    """Content of the marker that names the store of a place."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["nirflow-objects"] = "nirflow-objects"
    store: str


def identity(connection: Connection) -> str:
    """Return the identity of a store: the time of its first rules, which a backup preserves."""
    first = text("SELECT version, changed_at FROM rule_changes ORDER BY id LIMIT 1")
    version, changed_at = connection.execute(first).one()
    return hashlib.sha256(f"{version} {changed_at.astimezone(UTC).isoformat()}".encode()).hexdigest()[:32]


def known_identity(connection: Connection) -> str:
    """Return the identity of the store; empty if it has no tables, or tables of a version without rules."""
    there = connection.scalar(text("SELECT to_regclass('rule_changes')")) is not None
    return identity(connection) if there else ""


def is_own_place(database: Database, objects: ObjectStore) -> bool:
    """Return whether the place has this store's marker, or False if it has none.

    Raises
    ------
    StoreError
        If it has another store's marker, or one that cannot be read.
    """
    marker = store_named_by(objects)
    if marker is not None and marker != (own := database.read(identity)):
        raise StoreError(
            f"The files at {objects.place} belong to another store: {MARKER} there has store = {marker!r}, and this "
            f"store is {own!r}.",
            remedy="Correct NIRFLOW_OBJECTS_URL or NIRFLOW_DATA_DIR. If that other store no longer exists, delete "
            f"{objects.place}/{MARKER}.",
        )
    return marker is not None


def store_named_by(objects: ObjectStore) -> str | None:
    """Return the identity of the store that the place's marker names, or None if it has no marker.

    Raises
    ------
    StoreError
        If the marker cannot be read, or names no store.
    """
    content = objects.read_marker()
    if content is None:
        return None
    try:
        return StoreMarker.model_validate_json(content).store
    except ValidationError as error:
        raise StoreError(
            f"{objects.place}/{MARKER} does not name the store that the files belong to: it is damaged.",
            remedy="Check the disk; if these are this store's files, delete that file: it is written again.",
        ) from error


def require_own_place(database: Database, objects: ObjectStore) -> None:
    """Refuse a place that is not this store's; mark this store's place if it has no marker yet.

    Raises
    ------
    StoreError
        If it is another store's, holds none of this store's files, or cannot be read.
    """
    if is_own_place(database, objects):
        return
    newest = database.read(_newest)
    if newest and not (any(map(objects.exists, newest)) or set_aside(objects, newest)):
        raise StoreError(
            f"{objects.place} holds no file of any product: this store's files are elsewhere.",
            remedy=_REMEDY,
        )
    if not newest and (found := next(objects.objects(), None)) is not None:
        if is_own_place(
            database, objects
        ):  # its first product, which another process is adding at this moment
            return
        raise StoreError(
            f"{objects.place} holds files (such as {found.place}) but this store has no products: they belong to "
            "another store.",
            remedy="Name an empty place in NIRFLOW_OBJECTS_URL, or the data folder of that store in NIRFLOW_DATA_DIR.",
        )
    claim(database, objects)


def require_complete_place(database: Database, objects: ObjectStore) -> None:
    """Refuse a place that is not this store's, or where most of the newest files are missing.

    Raises
    ------
    StoreError
        If it is such a place: the disk may not be mounted, or only in part.
    """
    require_own_place(database, objects)
    newest = database.read(_newest)
    absent = [sha256 for sha256 in newest if not objects.exists(sha256)]
    missing = len(absent)
    if missing > max(FEW, len(newest) / 2) and not set_aside(objects, absent):
        raise StoreError(
            f"{missing} of the {len(newest)} newest files are missing at {objects.place}: it is incomplete.",
            remedy=_REMEDY,
        )


def doubt_about(database: Database, objects: ObjectStore, *, missing: Sequence[str], expected: int) -> str:
    """Return why missing files may be elsewhere instead of lost; empty if there is no such doubt.

    Parameters
    ----------
    missing
        sha256 of the missing files without a copy.
    expected
        How many files should be there.

    Raises
    ------
    StoreError
        If the place is another store's, or cannot be read.
    """
    own = is_own_place(database, objects)
    if missing and not own and len(missing) == expected:
        return f"{objects.place} holds no file of any product: this store's files may be elsewhere."
    if len(missing) > max(FEW, expected / 10):
        return f"{len(missing)} of {expected} files are missing at {objects.place}: it may be mounted only in part."
    return ""


def claim(database: Database, objects: ObjectStore) -> None:
    """Write this store's marker into the place, if the account may."""
    mark(objects, database.read(identity))


def mark(objects: ObjectStore, store: str) -> None:
    """Write a store's marker into the place, if the account may."""
    marker = StoreMarker(store=store)
    try:
        objects.write_marker(marker.model_dump_json(indent=1).encode() + b"\n")
    except StoreError as error:
        logger.info("The files at %s remain without a marker: %s", objects.place, error.message)


_REMEDY = (
    "Mount the disk, or correct NIRFLOW_OBJECTS_URL. If the files are lost, `nirflow cal verify` lists them and "
    "shows the option that records them as lost, so that they are made again."
)


def _newest(connection: Connection) -> list[str]:
    """Return the files of the newest products, which should be there."""
    query = select(products.c.sha256).where(~products.c.damaged)
    return list(connection.scalars(query.order_by(products.c.made_at.desc(), products.c.id).limit(_SAMPLE)))


def set_aside(objects: ObjectStore, sha256s: Collection[str]) -> set[str]:
    """Return which of these objects were found damaged at the place and set aside, which shows that it is theirs."""
    names = {found.place.rpartition("/")[2].partition(".")[0] for found in objects.leftovers()}
    return names & set(sha256s)

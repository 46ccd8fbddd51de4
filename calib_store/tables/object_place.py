"""Whose the place of the files is: asked before a file is added, noted as lost for every machine, or removed.

A disk that is not mounted looks like one whose files are all lost, and another store's place like one full of orphans.
So a store writes its identity into its place (``store.json``) with its first file. A place without that marker, of an
earlier nirflow, becomes the store's own when it holds any of the store's files.
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

#: Newest products whose files show whether the place is complete.
_SAMPLE = 20
#: As many files may be missing without a doubt about the place, whatever the number of products.
FEW = 2


class StoreMarker(BaseModel):
    """What a place of files holds about its store."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal["nirflow-objects"] = "nirflow-objects"
    store: str


def identity(connection: Connection) -> str:
    """Return what tells a store from every other: when it got its first rules, which stays through a backup."""
    first = text("SELECT version, changed_at FROM rule_changes ORDER BY id LIMIT 1")
    version, changed_at = connection.execute(first).one()
    return hashlib.sha256(f"{version} {changed_at.astimezone(UTC).isoformat()}".encode()).hexdigest()[:32]


def known_identity(connection: Connection) -> str:
    """Return the identity of the store; empty for tables of a version that has no rules yet, or none."""
    there = connection.scalar(text("SELECT to_regclass('rule_changes')")) is not None
    return identity(connection) if there else ""


def is_own_place(database: Database, objects: ObjectStore) -> bool:
    """Whether the place has this store's marker; False where it has none.

    Raises
    ------
    StoreError
        Where it has another store's, or cannot be read.
    """
    marker = store_named_by(objects)
    if marker is not None and marker != (own := database.read(identity)):
        raise StoreError(
            f"The files at {objects.place} belong to another store: {MARKER} there has store = {marker!r}, and this "
            f"store is {own!r}.",
            remedy="Correct NIRFLOW_OBJECTS_URL or NIRFLOW_DATA_DIR. Where that other store is gone for good, delete "
            f"{objects.place}/{MARKER}.",
        )
    return marker is not None


def store_named_by(objects: ObjectStore) -> str | None:
    """Return the identity of the store that the place's marker names; None where it has no marker.

    Raises
    ------
    StoreError
        Where the marker cannot be read, or names none.
    """
    content = objects.read_marker()
    if content is None:
        return None
    try:
        return StoreMarker.model_validate_json(content).store
    except ValidationError as error:
        raise StoreError(
            f"{objects.place}/{MARKER} does not name the store that the files belong to: it is damaged.",
            remedy="Look at the disk; where these are this store's files, delete that file: it is written again.",
        ) from error


def require_own_place(database: Database, objects: ObjectStore) -> None:
    """Refuse a place that is not this store's; mark one that is and has no marker yet.

    Raises
    ------
    StoreError
        Where it is another store's, holds none of this store's files, or cannot be read.
    """
    if is_own_place(database, objects):
        return
    newest = database.read(_newest)
    if newest and not (any(map(objects.exists, newest)) or set_aside(objects, newest)):
        raise StoreError(
            f"There is no file of any product at {objects.place}: it is not where this store's files are.",
            remedy=_REMEDY,
        )
    if not newest and (found := next(objects.objects(), None)) is not None:
        raise StoreError(
            f"{objects.place} holds files (such as {found.place}) and this store has no product: they are another "
            "store's.",
            remedy="Name an empty place in NIRFLOW_OBJECTS_URL, or the data folder of that store in NIRFLOW_DATA_DIR.",
        )
    claim(database, objects)


def require_complete_place(database: Database, objects: ObjectStore) -> None:
    """Refuse a place that is not this store's, or where most of the newest files are missing.

    Raises
    ------
    StoreError
        Where it is one: a disk that is not mounted, or only in part.
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
    """Why files that are missing may not be lost but elsewhere; empty where there is no such doubt.

    Parameters
    ----------
    missing
        sha256 of the files that are missing and have no copy.
    expected
        How many files should be there.

    Raises
    ------
    StoreError
        Where the place is another store's, or cannot be read.
    """
    own = is_own_place(database, objects)
    if missing and not own and len(missing) == expected:
        return (
            f"There is no file of any product at {objects.place}: it may not be where this store's files are."
        )
    if len(missing) > max(FEW, expected / 10):
        return f"{len(missing)} of {expected} files are missing at {objects.place}: it may be mounted only in part."
    return ""


def claim(database: Database, objects: ObjectStore) -> None:
    """Write this store's marker into the place; where the account may not, the place stays as it is."""
    mark(objects, database.read(identity))


def mark(objects: ObjectStore, store: str) -> None:
    """Write a store's marker into the place, where the account may."""
    marker = StoreMarker(store=store)
    try:
        objects.write_marker(marker.model_dump_json(indent=1).encode() + b"\n")
    except StoreError as error:
        logger.info("The files at %s stay without a marker: %s", objects.place, error.message)


_REMEDY = (
    "Mount the disk, or correct NIRFLOW_OBJECTS_URL. Where the files are lost, `nirflow cal verify` lists them and "
    "shows the option that notes them as lost, so that they are made again."
)


def _newest(connection: Connection) -> list[str]:
    """Files of the newest products that should be there."""
    query = select(products.c.sha256).where(~products.c.damaged)
    return list(connection.scalars(query.order_by(products.c.made_at.desc(), products.c.id).limit(_SAMPLE)))


def set_aside(objects: ObjectStore, sha256s: Collection[str]) -> set[str]:
    """Which of these objects were found damaged at the place, and set aside: it is where they were."""
    names = {found.place.rpartition("/")[2].partition(".")[0] for found in objects.leftovers()}
    return names & set(sha256s)

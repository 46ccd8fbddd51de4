"""Housekeeping: verify every product's complete file, and remove files that nothing refers to any more.

A reduction never does any of this. A product that has a row keeps its file, whatever its status.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, func, select, text

from calib_store.files.objects import Condition, Found, file_sha256
from calib_store.model.records import Product
from calib_store.store import Store
from calib_store.tables import products
from calib_store.tables.locks import KEEPING
from calib_store.tables.object_place import claim, doubt_about, is_own_place, require_own_place, set_aside
from calib_store.tables.schema import products as table
from imaging.errors import StoreError
from imaging.listed import listed

logger = logging.getLogger(__name__)

#: A file younger than this may still be in the process of being added.
GRACE = timedelta(days=1)
_PAGE = 1000

Repair = Literal["", "noted", "intact again", "healed", "replaced"]


@dataclass(frozen=True)
class Finding:
    """A product with a problem in its file or its row.

    Attributes
    ----------
    product
        The product.
    condition
        Condition of its file.
    done
        What was done: ``noted`` (the row now records that the file is damaged, so it is not used), ``intact again``
        (the row recorded damage but the file is intact), ``healed`` or ``replaced`` (by a copy with the same
        bytes), or nothing.
    """

    product: Product
    condition: Condition
    done: Repair = ""

    @property
    def news(self) -> bool:
        """Whether the file is lost or damaged, and the product's row does not record it yet."""
        return self.condition != "intact" and not self.product.damaged


@dataclass(frozen=True)
class Verified:
    """What `verify` found.

    Attributes
    ----------
    checked, size
        Number of products examined, and bytes of their files.
    findings
        Products with problems.
    orphans, leftovers
        Files that no product refers to, and unfinished or damaged files.
    missing
        Number of missing files without a copy that are not yet recorded as missing.
    doubt
        Why those may not be lost: the place may not be this store's, or mounted only in part. Otherwise empty.
    """

    checked: int
    size: int
    findings: tuple[Finding, ...]
    orphans: tuple[Found, ...]
    leftovers: tuple[Found, ...]
    missing: int = 0
    doubt: str = ""

    @property
    def well(self) -> bool:
        """Whether every product's file is intact, also according to its row."""
        return all(finding.done in ("intact again", "healed", "replaced") for finding in self.findings)


@dataclass(frozen=True)
class Waste:
    """A file that can be removed: where it is, its size, and what it is."""

    place: str
    size: int
    what: Literal["orphan", "left aside", "damaged", "unfinished product"]
    found: Found | None = None


def verify(
    store: Store,
    *,
    repair: bool = False,
    copies: Sequence[Path] = (),
    lost: int | None = None,
    progress: Callable[[Product], None] = lambda product: None,
) -> Verified:
    """Read every product's file completely and compare it with its row.

    Parameters
    ----------
    store
        The store.
    repair
        Replace lost or damaged files by copies with the same bytes, if there are any; record the others as damaged,
        so that the next reduction makes them again; clear the record if the file is intact. A file that cannot be
        read is left alone.
    copies
        Folders to search for copies.
    lost
        The exact number of missing files to record as lost even if the place of the files is in doubt.
    progress
        Called with each product after it has been examined.

    Raises
    ------
    StoreError
        If the place of the files is another store's. For a repair, also if it is in doubt and ``lost`` does not confirm
        it: nothing has been repaired or recorded then.
    """
    own = is_own_place(store.database, store.objects)
    findings: list[Finding] = []
    checked = size = noted = 0
    for product in every_product(store):
        condition = store.objects.examine(product.sha256)
        checked, size, noted = checked + 1, size + product.size, noted + product.damaged
        if condition != "intact" or product.damaged:
            findings.append(Finding(product, condition))
        progress(product)
    elsewhere = _copies(
        copies, {f.product.sha256: f.product.size for f in findings if f.condition in ("missing", "damaged")}
    )
    missing = [
        f.product
        for f in findings
        if f.condition == "missing" and not f.product.damaged and f.product.sha256 not in elsewhere
    ]
    if missing:
        damaged = set_aside(store.objects, [product.sha256 for product in missing])
        missing = [product for product in missing if product.sha256 not in damaged]
    doubt = doubt_about(
        store.database, store.objects, missing=[p.sha256 for p in missing], expected=checked - noted
    )
    if repair:
        if (doubt or lost is not None) and lost != len(missing):
            raise _unconfirmed(store, missing, doubt, lost)
        findings = [_repaired(store, finding, elsewhere) for finding in findings]
        if checked and not own:
            claim(store.database, store.objects)
    return Verified(
        checked, size, tuple(findings), tuple(orphans(store)), tuple(store.objects.leftovers()),
        len(missing), doubt,
    )  # fmt: skip


def _unconfirmed(store: Store, missing: Sequence[Product], doubt: str, lost: int | None) -> StoreError:
    named = listed((f"{product.name} ({product.short_id})" for product in missing), 5)
    given = f" --note-lost {lost} is not their number." if lost is not None else ""
    return StoreError(
        f"{doubt or f'{len(missing)} files are missing at {store.objects.place}.'}{given} Nothing was changed.",
        remedy="Mount the disk, or correct NIRFLOW_OBJECTS_URL. "
        + (
            f"If the files are lost, `nirflow cal verify --repair --note-lost {len(missing)}` records, for every "
            f"machine, that these must be made again: {named}."
            if missing
            else ""
        ),
    )


def every_product(store: Store) -> Iterator[Product]:
    """Yield all products, newest first, read page by page."""
    page = store.products(limit=_PAGE)
    while page:
        yield from page
        page = store.products(limit=_PAGE, after=page[-1])


def orphans(store: Store) -> Iterator[Found]:
    """Yield objects that no product refers to."""
    batch: list[Found] = []
    for found in store.objects.objects():
        batch.append(found)
        if len(batch) == _PAGE:
            yield from _unreferenced(store, batch)
            batch = []
    yield from _unreferenced(store, batch)


def gc(store: Store, *, grace: timedelta = GRACE, staging: Path | None = None) -> tuple[Waste, ...]:
    """Return the files that can be removed: unreferenced and older than ``grace``. Nothing is removed.

    Parameters
    ----------
    store
        The store.
    grace
        Younger files are kept: a product's file is written before its row.
    staging
        Folder where reductions on this machine write products before they are added.

    Raises
    ------
    StoreError
        If the place of the files is not this store's.
    """
    require_own_place(store.database, store.objects)  # another store's files are not orphans
    before = time.time() - grace.total_seconds()
    waste = [Waste(f.place, f.size, "orphan", f) for f in orphans(store) if f.since <= before]
    waste += [
        Waste(f.place, f.size, "damaged" if f.place.startswith("quarantine/") else "left aside", f)
        for f in store.objects.leftovers()
        if f.since <= before
    ]
    # The contents of a folder before the folder.
    for path in sorted(staging.rglob("*"), reverse=True) if staging is not None and staging.is_dir() else ():
        try:
            stat = path.lstat()
        except FileNotFoundError:
            continue  # a reduction has moved it into the store
        if stat.st_ctime <= before:
            waste.append(Waste(str(path), stat.st_size if path.is_file() else 0, "unfinished product"))
    return tuple(waste)


def remove(store: Store, waste: Iterable[Waste], *, grace: timedelta = GRACE) -> tuple[Waste, ...]:
    """Remove what `gc` listed, if it is still waste, and return what was removed.

    Each file is checked again while no process can give it a row.
    """
    gone = []
    for one in waste:
        if one.found is None:
            path = Path(one.place)
            try:
                path.rmdir() if path.is_dir() else path.unlink()
            except OSError as error:  # it is being written again, or another process was quicker
                logger.info("%s was not removed: %s", path, error)
                continue
            gone.append(one)
        elif store.database.run(partial(_removed, store, one, grace)):
            gone.append(one)
    return tuple(gone)


def _removed(store: Store, waste: Waste, grace: timedelta, connection: Connection) -> bool:
    assert waste.found is not None
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": KEEPING})
    now = store.objects.renewed(waste.found)
    if now is None or now.since > time.time() - grace.total_seconds():
        return False
    if now.sha256 is not None and now.sha256 in _referenced(connection, [now.sha256]):
        return False
    store.objects.remove(now)
    return True


def _unreferenced(store: Store, found: Sequence[Found]) -> list[Found]:
    wanted = [one.sha256 for one in found if one.sha256 is not None]
    known = store.database.run(lambda connection: _referenced(connection, wanted))
    return [one for one in found if one.sha256 not in known]


def _referenced(connection: Connection, sha256s: Sequence[str]) -> set[str]:
    if not sha256s:
        return set()
    return set(connection.scalars(select(table.c.sha256).where(table.c.sha256.in_(sha256s))))


def _repaired(store: Store, finding: Finding, copies: dict[str, Path]) -> Finding:
    product, sha256 = finding.product, finding.product.sha256
    if finding.condition == "unreadable":
        return finding
    done: Repair
    if finding.condition == "intact":
        done = "intact again"
    elif store.objects.heal(sha256):
        done = "healed"
    elif sha256 in copies:
        store.objects.verify(sha256)  # a damaged file is set aside first
        store.objects.put(copies[sha256])
        done = "replaced"
    else:
        store.objects.verify(sha256)
        done = "noted"
    damaged = done == "noted"
    if damaged != product.damaged:
        store.database.run(lambda connection: products.mark_damaged(connection, product, damaged))
    return Finding(product, finding.condition, done)


def _copies(folders: Sequence[Path], wanted: dict[str, int]) -> dict[str, Path]:
    """Return files below ``folders`` with the bytes of a wanted object; only files of its size are read."""
    sizes = set(wanted.values())
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.fits")):
            if path.is_file() and path.stat().st_size in sizes:
                sha256 = file_sha256(path)
                if sha256 in wanted:
                    found.setdefault(sha256, path)
    return found


def number_of_products(store: Store) -> int:
    """Return how many products the store has."""
    return store.database.run(
        lambda connection: int(connection.scalar(select(func.count()).select_from(table)) or 0)
    )

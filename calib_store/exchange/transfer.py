"""Transfer of products between stores: exported with all their ancestors, and imported, trusted or not.

An import adds the file of each product, checked like any file that a user adds (`calib_store.exchange.adopt`): it gets
its own recipe key, serves only as a last resort, and no run uses it in place of a product that it would make itself.
Decisions of the other store are recorded as proposals (`calib_store.exchange.proposals`). Its recipe keys, raw frames
and decisions are adopted only if the user trusts the other store. Importing the same transfer again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection

from calib_store.exchange import proposals
from calib_store.exchange.acceptance import Companions, check_content, check_planes
from calib_store.exchange.adopt import recognise
from calib_store.exchange.bundle import Bundle, write_bundle
from calib_store.exchange.decision_log import (
    Taken,
    decisions_on_frames,
    decisions_on_products,
    take_frame_decisions,
    take_product_decisions,
)
from calib_store.exchange.manifest import Manifest, ProductEntry, manifest_of, new_product, readable
from calib_store.exchange.recipe_check import adopted_key, expected_key
from calib_store.files.objects import StoredObject
from calib_store.model.records import COUNTING, IMPORTED, Product
from calib_store.store import Store
from calib_store.tables import frames, products, status
from calib_store.tables.locks import keep
from calib_store.tables.object_place import require_own_place
from calib_store.tables.products import NewProduct, product_id
from imaging.errors import FrameError, StoreError
from imaging.frames.facts import facts_from_headers
from imaging.instruments.detector import WantedShape
from imaging.products.product_file import ProductFile


@dataclass
class Imported:
    """The result of an import.

    Attributes
    ----------
    added, known
        Products that are new here, and those that were already here.
    frames
        Raw frames that are new here.
    changed
        Products and frames that were already here and changed status, because the other store decided so since.
    proposed
        Decisions of the other store that are new here and have no effect.
    remarks
        What was not imported unchanged: a product that does not count there, a certification for a time that is
        already taken, a status that the stores decided differently.
    """

    added: list[Product] = field(default_factory=list)
    known: list[Product] = field(default_factory=list)
    frames: int = 0
    changed: list[str] = field(default_factory=list)
    proposed: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def note(self, taken: Taken, *, was_here: bool) -> None:
        """Record the result of importing decisions."""
        self.changed += [taken.changed] if taken.changed and was_here else []
        self.remarks += [taken.remark] if taken.remark else []


def export(store: Store, wanted: Sequence[Product], target: Path) -> Manifest:
    """Write products and all their ancestors for another store.

    Parameters
    ----------
    store
        The store.
    wanted
        The products.
    target
        A new folder; or a new file, whose name ends with ``.tar`` or ``.tar.gz``.

    Raises
    ------
    StoreError
        If the target exists or cannot be written, or a product's file is damaged. Nothing is left behind then.
    """
    manifest = manifest_of(store, wanted)
    write_bundle(store, manifest, target)
    return manifest


def import_products(
    store: Store, source: Path, *, author: str, trust: bool = False, shape: WantedShape = None
) -> Imported:
    """Import the products of a transfer; products that are already here are kept.

    Parameters
    ----------
    source
        A folder or tar that `export` wrote.
    author
        Who imports them, for the status log.
    trust
        Adopt the recipe keys, so that runs use the products as their own; the raw frames; and every decision about a
        product or frame that follows the latest one here, or if nothing was decided here. A product whose key cannot be
        derived from the transfer (frames that were left out, inputs from elsewhere, choices of a user) is imported as
        without trust, with its descendants: any key could be claimed for it. If both stores have decided since, the
        status here is kept, and a remark has both. Authors are marked as from elsewhere. Products that were rejected or
        superseded serve no frame, and are imported unchanged; without trust they are left out.
    shape
        Rows and columns that a calibration must have, or those of its detector, if the source is not trusted;
        default: any.

    Raises
    ------
    StoreError
        If it is not a transfer, it contradicts itself, or a file in it is missing, does not match the manifest, or
        cannot serve (`calib_store.exchange.acceptance`). Nothing is imported then.
    """
    bundle = Bundle.open(source)
    taking = (_Trusting if trust else _Careful)(store, bundle, author, shape)
    found = taking.look()
    new = {entry.sha256: one for entry, one in found if isinstance(one, NewProduct)}
    require_own_place(store.database, store.objects)
    stored = {sha256: store.objects.put(path, move=True) for sha256, path in bundle.files(new)}

    def write(connection: Connection) -> Imported:
        keep(connection)  # until the rows are written, housekeeping removes no files
        if not all(store.objects.exists(sha256) for sha256 in stored):
            raise StoreError(
                f"A file of {source.name} was removed as an orphan during the import.",
                remedy="Import it again.",
            )
        return taking.write(connection, found, stored)

    return store.database.run(write)


#: An entry of the manifest, and the product of this store or the one to be added.
_Found = tuple[ProductEntry, Product | NewProduct]


class _Careful:
    """An import of the files as if a user had added them, and of nothing else."""

    def __init__(self, store: Store, bundle: Bundle, author: str, shape: WantedShape) -> None:
        self.store, self.bundle, self.author, self.shape = store, bundle, author, shape
        self.left_out: list[str] = []

    def look(self) -> list[_Found]:
        """Find the products that are here, and check the files of the others that count where they were made."""
        return self.recognised(self.bundle.manifest.products)

    def recognised(self, entries: Sequence[ProductEntry]) -> list[_Found]:
        """Return the same for a part of the products."""
        found: dict[str, Product | NewProduct] = {}
        wanted: dict[str, ProductEntry] = {}
        for one in entries:
            for key in (one.recipe_key, adopted_key(one.kind, one.sha256)):
                if (product := self.store.find(key)) is not None:
                    found.setdefault(one.sha256, product)
            if one.sha256 not in found and _counts(one):
                wanted[one.sha256] = one
            elif one.sha256 not in found:
                last = one.decisions[-1]
                self.left_out.append(f"{one.name} was not imported: it is {last.status_text} there, {last}")
        for sha256, path in self.bundle.files(wanted):
            one = wanted[sha256]
            try:
                found[sha256] = recognise(
                    self.store, one.name, path, sha256, kind=one.kind, shape=self.shape, author=self.author,
                    provisional=IMPORTED,
                )  # fmt: skip
            except FrameError as error:
                raise _of(self.bundle, error) from error
        return [(one, found[one.sha256]) for one in entries if one.sha256 in found]

    def write(
        self, connection: Connection, found: Sequence[_Found], stored: Mapping[str, StoredObject]
    ) -> Imported:
        """Add the products, and record the decisions about them as proposals."""
        done = Imported(remarks=list(self.left_out))
        self.add(connection, found, stored, done)
        about = self._about()
        decided = {entry.sha256: entry for entry in self.bundle.manifest.frames if entry.decisions}
        decisions = decisions_on_frames(connection, decided)
        for sha256, frame in decided.items():
            if proposals.is_open(decisions.get(sha256, ()), frame.decisions):
                latest = frame.decisions[-1]
                if proposals.record(connection, sha256, latest, **about):
                    done.proposed.append(
                        f"raw frame {frame.name} ({sha256[:8]}): {latest.status_text}, {latest}"
                    )
        return done

    def add(
        self,
        connection: Connection,
        found: Sequence[_Found],
        stored: Mapping[str, StoredObject],
        done: Imported,
    ) -> None:
        """Add some of the products, and record the decisions about them as proposals."""
        for entry, product in _added(connection, found, stored, done):
            here = decisions_on_products(connection, [product.id]).get(product.id, ())
            if proposals.is_open(here, entry.decisions):
                last = entry.decisions[-1]
                if proposals.record(connection, product.id, last, **self._about()):
                    done.proposed.append(f"{product.name_and_id}: {last.status_text}, {last}")

    def _about(self) -> dict[str, str]:
        return {"source": readable(self.bundle.source.name), "author": self.author}


class _Trusting:
    """An import of everything except products whose recipe keys cannot be confirmed."""

    def __init__(self, store: Store, bundle: Bundle, author: str, shape: WantedShape) -> None:
        self.store, self.bundle, self.author = store, bundle, author
        self.careful = _Careful(store, bundle, author, shape)
        self.unproven: list[_Found] = []

    def look(self) -> list[_Found]:
        """Check that the manifest agrees with itself, and the files of products that count."""
        manifest = self.bundle.manifest
        proven = self._proven()
        self.unproven = self.careful.recognised(
            [one for one in manifest.products if one.recipe_key not in proven]
        )
        found: dict[str, Product | NewProduct] = {}
        for one in proven.values():
            if (product := self.store.find(one.recipe_key)) is not None:
                found[one.sha256] = product
        wanted = {one.sha256: one for one in proven.values() if one.sha256 not in found}
        companions = Companions(
            {one.sha256: (one.name, one.facts) for one in manifest.frames if one.facts is not None},
            {product_id(one.recipe_key): (one.kind, (one.name, one.facts)) for one in manifest.products},
        )
        for sha256, path in self.bundle.files(wanted):
            new = new_product(wanted[sha256], self.author)
            if _counts(wanted[sha256]):
                try:
                    _check_file(self.store, new, path, companions)
                except FrameError as error:
                    raise _of(self.bundle, error) from error
            found[sha256] = new
        return [*((one, found[one.sha256]) for one in proven.values()), *self.unproven]

    def _proven(self) -> dict[str, ProductEntry]:
        """Return, by key, the products whose keys follow from the manifest, or that are here with the same file."""
        keys: dict[UUID, str] = {}
        proven: dict[str, ProductEntry] = {}
        for one in self.bundle.manifest.products:
            new = new_product(one, self.author)
            expected = expected_key(
                one.kind, one.sha256, new.inputs, keys, one.parameters, one.algorithm_version,
                metrics=one.metrics, provisional=one.provisional,
            )  # fmt: skip
            if expected not in (None, one.recipe_key):
                raise StoreError(
                    f"{self.bundle.source.name}: the recipe key of {one.name} does not match its inputs, parameters "
                    "and algorithm.",
                    remedy="Export it again where it was made; or import it without --trust, ignoring recipe keys.",
                )
            here = self.store.find(one.recipe_key) if expected is None else None
            if expected is not None or (here is not None and here.sha256 == one.sha256):
                keys[new.id] = one.recipe_key
                proven[one.recipe_key] = one
        return proven

    def write(
        self, connection: Connection, found: Sequence[_Found], stored: Mapping[str, StoredObject]
    ) -> Imported:
        """Add frames and products, and adopt the decisions about them."""
        done = Imported()
        entries = {entry.sha256: entry for entry in self.bundle.manifest.frames}
        before = frames.with_sha256s(connection, entries).keys()
        described = [(f.sha256, f.name, f.facts, f.quarantine, f.header) for f in entries.values()]
        done.frames = frames.note(connection, described)
        for sha256, frame in frames.with_sha256s(connection, entries).items():
            taken = take_frame_decisions(connection, frame, entries[sha256].decisions)
            done.note(taken, was_here=sha256 in before)
        proven = [one for one in found if one not in self.unproven]
        here: list[tuple[ProductEntry, Product]] = list(_added(connection, proven, stored, done))
        # A decision may name another product, which must be here.
        for entry, product in here:
            taken = take_product_decisions(connection, product, entry.decisions)
            done.note(taken, was_here=product in done.known)
        for entry, product in here:
            twin = products.by_recipe(connection, adopted_key(entry.kind, entry.sha256))
            if twin is not None and twin.id != product.id and twin.provisional == IMPORTED and twin.counts:
                status.set_status(
                    connection, twin, "superseded", author=self.author, by=product.id,
                    reason=f"taken over from the other store as {product.name_and_id}",
                )  # fmt: skip
        self.careful.add(connection, self.unproven, stored, done)
        done.remarks += self.careful.left_out
        done.remarks += [
            f"{entry.name} was imported as without --trust: its recipe key cannot be derived from the transfer"
            for entry, _ in self.unproven
        ]
        return done


def _added(
    connection: Connection, found: Sequence[_Found], stored: Mapping[str, StoredObject], done: Imported
) -> list[tuple[ProductEntry, Product]]:
    """Return the products, adding those that are new."""
    there = []
    for entry, one in found:
        if isinstance(one, NewProduct):
            product = products.add(connection, one, stored[entry.sha256])
            done.added.append(product)
        else:
            product = one
            done.known.append(product)
        there.append((entry, product))
    return there


def _counts(entry: ProductEntry) -> bool:
    return not entry.decisions or entry.decisions[-1].status in COUNTING


def _of(bundle: Bundle, error: FrameError) -> StoreError:
    """Return the error of a file in a transfer."""
    problem = error.message.removeprefix(f"{error.name}: ")
    return StoreError(f"{bundle.source.name}: {error.name}: {problem}", remedy=error.remedy)


def _check_file(store: Store, new: NewProduct, file: Path, companions: Companions) -> None:
    """Refuse a product that cannot serve, or whose file contradicts the manifest."""
    with ProductFile(file) as product:
        its = facts_from_headers(product.primary, product.header, name=new.name)
        check_planes(new.name, product)
        if its.product_kind not in ("", new.kind):
            raise FrameError(
                new.name, f"it is a {new.kind} in the manifest, but its file is a {its.product_kind}",
                remedy="Export it again.",
            )  # fmt: skip
        check_content(
            store,
            new.kind,
            product,
            new.name,
            new.facts,
            new.inputs,
            [("its file", its)],
            companions=companions,
        )

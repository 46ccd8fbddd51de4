"""The calibration store's public interface."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from calib_store.choice import choose, matching
from calib_store.files.objects import ObjectStore
from calib_store.migrations import migrate, require_head
from calib_store.model.records import (
    Decision,
    Frame,
    InputRef,
    Lineage,
    Match,
    Product,
    Status,
    StatusChange,
    recipe_key,
)
from calib_store.model.settings import StoreSettings
from calib_store.rules.rules import RuleSet, check_kind
from calib_store.server.places import objects_of, open_database
from calib_store.tables import decisions, lineage, products, rulebook, status_log, tiers, variants
from calib_store.tables import status as statuses
from calib_store.tables.database import Database
from calib_store.tables.locks import keep, lock_number
from calib_store.tables.object_place import require_complete_place, require_own_place
from calib_store.tables.products import NewProduct
from calib_store.tables.raw_frames import RawFrames
from calib_store.tables.runs import Runs
from calib_store.tables.services.catalogue_answers import CatalogueAnswers
from imaging.errors import StoreError
from imaging.frames.facts import FrameFacts
from imaging.listed import listed

__all__ = ["Store", "recipe_key"]

T = TypeVar("T")

#: Products on either side in time that an explanation considers, in addition to those that serve.
EXPLAINED = 25


class Store:
    """The calibration store: frames, products, the choice between them, and their files.

    Instances may be shared between threads; create one with `Store.open` and use it as a context manager. What users do
    with a store is in `calib_store.curation`, `calib_store.exchange` and `calib_store.administration`.

    Parameters
    ----------
    database, objects
        Where the rows and the files are.

    Attributes
    ----------
    frames, runs, answers
        The raw frames; the reports of flow runs; the answers of services with catalogues.
    """

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self.database = database
        self.objects = objects
        self.frames = RawFrames(database)
        self.runs = Runs(database)
        self.answers = CatalogueAnswers(database)

    @classmethod
    def open(cls, settings: StoreSettings | None = None) -> Store:
        """Open the store that the settings name (default: the settings of the environment).

        An embedded database is started and brought up to date. The tables of a database named by a URL are their
        owner's responsibility: they must exist and be up to date.

        Raises
        ------
        StoreError
            If the database cannot be started, does not answer, or lacks these tables. The message omits the password.
        """
        settings = settings or StoreSettings()
        database = open_database(settings)
        try:
            if settings.database_url is None:
                database.persist(lambda: migrate(database.engine))
            else:
                database.persist(lambda: require_head(database.engine))
            return cls(database, objects_of(settings))
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Close the connections; an embedded server stays up."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a function of a lower layer with a connection, and return its result."""
        return self.database.run(lambda connection: question(connection, *arguments, **options))

    # Products

    def known(self, recipe_key: str) -> Product | None:
        """Return the product of a recipe, whatever its status and its file."""
        return self._ask(products.by_recipe, recipe_key)

    def find(self, recipe_key: str) -> Product | None:
        """Return the product of a recipe, whatever its status, if there is one and its file is intact.

        A damaged file is set aside, and the product is not found until it is made again.
        """
        return self.intact(self.known(recipe_key))

    def intact(self, product: Product | None) -> Product | None:
        """Return the product if its file is intact, as for `find`."""
        there = product is not None and not product.damaged and self._is_intact(product)
        return product if there else None

    @contextlib.contextmanager
    def lock(self, recipe_key: str, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the exclusive right, across processes and machines, to build a recipe.

        Look up, lock, look up again, build, add: this builds a product only once. The lock is released at once
        when its holder is killed. Waiting for it can be interrupted.
        ``waiting`` is called once when another process holds the lock.
        """
        with self.database.lock(lock_number(recipe_key), waiting=waiting):
            yield

    def add(self, new: NewProduct, file: Path, *, move: bool = False) -> Product:
        """Add a product: the file first, then its rows in one transaction.

        If the recipe already has a product, that one is returned and nothing changes.

        Parameters
        ----------
        new
            What it is.
        file
            Its file: copied, or moved if ``move`` is true.

        Raises
        ------
        StoreError
            If the file cannot be stored, or an input is not known.
        """
        there = self.find(new.recipe_key)
        if there is not None:
            return there
        require_own_place(self.database, self.objects)
        stored = self.objects.put(file, move=move)

        def write(connection: Connection) -> Product | None:
            keep(connection)  # until the row is there, housekeeping takes no file away
            return products.add(connection, new, stored) if self.objects.exists(stored.sha256) else None

        product = self.database.run(write)
        if product is None:
            raise StoreError(
                f"The file of {new.name} was removed as an orphan while it was being added.",
                remedy="Add it again.",
            )
        return product

    def set_status(
        self,
        product: Product,
        status: Status,
        *,
        author: str,
        reason: str,
        validity: tuple[datetime | None, datetime | None] | None = None,
        by: UUID | None = None,
        because: str | None = None,
    ) -> Product:
        """Give a product a status; the actions of users are in `calib_store.curation.certify`.

        Parameters
        ----------
        validity
            Of a certified one: from (included) and to (excluded).
        by
            Of a superseded one: the product that took its place.
        because
            What went bad, if the replacement was made without it: id of a product, sha256 of a frame.

        Raises
        ------
        StoreError
            If another certified product of the configuration is valid at the time.
        """
        change = uuid.uuid4()
        self._ask(
            statuses.set_status, product, status, author=author, reason=reason, validity=validity,
            change=change, by=by, because=because,
        )  # fmt: skip
        return self.get(product.id)

    def products(
        self,
        kind: str | None = None,
        *,
        status: Status | None = None,
        night: date | None = None,
        after: Product | None = None,
        limit: int = 1000,
    ) -> tuple[Product, ...]:
        """Return products, newest first.

        Parameters
        ----------
        kind, status
            Only products of this kind and status.
        night
            Only those with inputs of that night, as the observatory of each names it.
        after
            The last product of the previous page.
        limit
            Maximum number.
        """
        if kind is not None:
            check_kind(kind)
        return self._ask(products.listed, kind=kind, status=status, night=night, after=after, limit=limit)

    def named(self, name: str) -> tuple[Product, ...]:
        """Return products that ``name`` may mean: see `get`; 20 at most."""
        return self._ask(products.named, name)

    def get(self, name: str | UUID) -> Product:
        """Return the one product of that id, file name, or first digits (6 or more) of id, sha256 or recipe key.

        Among several with one file name, it is the one that is neither rejected nor superseded.

        Raises
        ------
        StoreError
            If there is no such product, or more than one; the message names them.
        """
        found = products.resolved(self.named(str(name)), str(name))
        if not found:
            raise StoreError(
                f"The store has no product {str(name)!r}.",
                remedy="See `nirflow cal list` for names and ids (6 digits of an id or more).",
            )
        if len(found) > 1:
            several = listed((product.described for product in found), 5)
            raise StoreError(f"{name} may be any of {len(found)} products: {several}.", remedy="Give the id.")
        return found[0]

    def history(self, product: Product) -> tuple[StatusChange, ...]:
        """Return every change of a product's status."""
        return self._ask(status_log.history, product.id)

    def inputs_of(self, product: Product) -> tuple[InputRef, ...]:
        """Return what a product was made from, in order."""
        return self._ask(lineage.inputs_of, product.id)

    def lineage(self, product: Product) -> Lineage:
        """Return all that a product was made from, through all generations, up to the raw frames."""
        return self._ask(lineage.lineage, product.id)

    def affected(self, by: Product | Frame) -> tuple[Product, ...]:
        """Return every product made with a product or raw frame: what must be redone if it goes bad.

        Each comes after the products that it was made from.
        """
        source = by.id if isinstance(by, Product) else by.sha256
        return self.database.run(lambda c: products.with_ids(c, lineage.affected(c, source)))

    def file_of(self, product: Product) -> Path:
        """Return a verified file of the product on this machine, for reading only.

        Raises
        ------
        StoreError
            If it is missing or damaged; the product is then no longer found until it is made again.
        """
        if not self._is_intact(product):
            raise StoreError(
                f"The file of {product.name} ({product.id}) is missing or damaged.",
                remedy="Reduce again: it is rebuilt, or the next best product is used. To restore it from a copy: "
                "nirflow cal verify --repair --copies FOLDER",
            )
        return self.objects.local(product.sha256)

    def export_file(self, product: Product, destination: Path) -> Path:
        """Copy a product's verified file to a path or into a folder, and return the path."""
        self.file_of(product)
        target = destination / product.name if destination.is_dir() else destination
        self.objects.export(product.sha256, target)
        return target

    def rules(self, as_of: datetime | None = None) -> RuleSet:
        """Return the association rules in force now, or at an earlier time."""
        return self._ask(rulebook.active_rules, as_of)

    def match(
        self,
        facts: FrameFacts,
        kind: str,
        *,
        as_of: datetime | None = None,
        prefer: Sequence[UUID] = (),
        without: Collection[UUID] = (),
        parameters: variants.Parameters | None = None,
        flaw_of: Callable[[Product], str | None] | None = None,
    ) -> Match:
        """Return the product of ``kind`` that serves a frame, if any; the choice is deterministic.

        A certified product serves within its validity, a candidate within the window of its rule; among those the
        order of `calib_store.rules.order` decides. One whose file is damaged is set aside and the next one is taken.

        Parameters
        ----------
        facts
            The frame.
        kind
            Kind of the product; ``standard``: the stack of a standard field, for its zero point.
        as_of
            Choose as the store would have chosen at that time, by the rules then in force.
        prefer
            Products that the run has made from its own frames.
        without
            Products that must not be taken, whatever their status, because they are being made again.
        parameters
            The run's parameters by step; default: the default parameters.
        flaw_of
            Returns a short description of any other flaw that keeps an intact product from being used; the next best
            is taken then.
        """
        question = choose.Question(facts, kind, as_of, prefer, without, parameters)

        def flaw(product: Product) -> str | None:
            return self._flaw_of(product) or (flaw_of(product) if flaw_of is not None else None)

        return choose.match(self.database, question, flaw)

    def explain(
        self,
        facts: FrameFacts,
        kind: str,
        *,
        as_of: datetime | None = None,
        prefer: Sequence[UUID] = (),
        parameters: variants.Parameters | None = None,
        limit: int = EXPLAINED,
    ) -> Match:
        """Return the choice of `match` with the products that do not serve, each with the first rule that it fails.

        There are at most ``limit`` before and after the frame; those for its configuration come first.
        """
        question = choose.Question(facts, kind, as_of, prefer, (), parameters)
        return choose.explain(self.database, question, self._flaw_of, limit)

    def failures_of(self, product: Product, frames: Iterable[FrameFacts]) -> dict[str, str]:
        """Return the names of frames that a product does not serve, each with the first rule that it fails."""
        rules = self.rules()
        judged = {f.name: matching.judge(product, matching.Wanted(f, product.kind, rules)) for f in frames}
        return {name: failure for name, failure in judged.items() if failure is not None}

    def record_decisions(self, made: Sequence[Decision]) -> None:
        """Record which products were taken for which frames, with all candidates considered."""
        self._ask(decisions.record, made, uuid.uuid4())

    def rejected_ancestors(self, product: Product) -> tuple[tiers.RejectedAncestor, ...]:
        """Return the rejected ancestors of a product, of any generation."""
        return self._ask(tiers.rejected_ancestors, product.id)

    def superseded_by(self, product: Product) -> tuple[Product, ...]:
        """Return the products that a product has superseded by the store's own rules."""
        return self.database.run(lambda c: products.with_ids(c, statuses.superseded_by(c, product.id)))

    def confirm(self, product: Product) -> Product:
        """Make a provisional product serve like any other: it would be the same without the exception."""
        self._ask(products.confirm, product)
        return self.get(product.id)

    def _flaw_of(self, product: Product) -> str | None:
        return None if self._is_intact(product) else matching.DAMAGED

    def _is_intact(self, product: Product) -> bool:
        if self.objects.verify(product.sha256):
            return True
        require_complete_place(self.database, self.objects)  # before it is lost for every machine
        self._ask(products.mark_damaged, product)
        return False

"""The door of the calibration store."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel

from calib_store import decisions, frames, matching, postgres, products
from calib_store.database import Database
from calib_store.objects import ObjectStore
from calib_store.records import (
    Decision,
    FrameRecord,
    IngestReport,
    InputRef,
    KnownFile,
    Lineage,
    Match,
    Override,
    Product,
    Status,
    recipe_key,
)
from calib_store.rules import RULES_VERSION, configuration, rules_for
from calib_store.settings import StoreSettings
from imaging.errors import StoreError
from imaging.facts import FrameFacts

__all__ = ["Store", "recipe_key"]

logger = logging.getLogger(__name__)

_EXPLAINED = 200


class Store:
    """The calibration store: frames, products, the choice between them, and their files.

    Safe to share between threads. `Store.open` is the way to get one; use it as a context manager.

    Parameters
    ----------
    database
        Where the rows are.
    objects
        Where the files are.
    """

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self.database = database
        self.objects = objects

    @classmethod
    def open(cls, settings: StoreSettings | None = None) -> Store:
        """Open the store of the settings (of the environment without any): start what it needs, migrate.

        Raises
        ------
        StoreError
            Where the database cannot be started or does not answer; without its password.
        """
        settings = settings or StoreSettings()
        if settings.database_url is not None:
            database = Database(settings.database_url.get_secret_value())
        else:
            database = Database(postgres.ensure_running(settings.data_dir).url("nirflow"))
        try:
            database.migrate()
        except BaseException:
            database.close()
            raise
        return cls(database, ObjectStore(settings.objects_dir.expanduser().absolute()))

    def close(self) -> None:
        """Close the connections; an embedded server stays up."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Frames

    def known_files(self, paths: Iterable[Path]) -> dict[Path, KnownFile]:
        """Size, date (ns) and sha256 of those files that were ingested before, as they were then."""
        with self.database.begin() as connection:
            return frames.known_files(connection, paths)

    def facts_of(self, sha256s: Iterable[str]) -> dict[str, FrameFacts]:
        """The facts of the usable frames among ``sha256s``, without opening a file."""
        with self.database.begin() as connection:
            return frames.facts_of(connection, sha256s)

    def ingest(self, records: Sequence[FrameRecord]) -> IngestReport:
        """Note raw frames, in one transaction and a few statements whatever their number.

        The same bytes under several names are one frame with several files. The same name with other
        bytes is another frame. The report names both.
        """
        with self.database.begin() as connection:
            return frames.ingest(connection, records)

    # Products

    def find(self, recipe_key: str) -> Product | None:
        """The product of a recipe, if there is one and its file is whole.

        A damaged file is set aside, and the product is not found until it is made again.
        """
        with self.database.begin() as connection:
            product = products.by_recipe(connection, recipe_key, self.objects)
        if product is None or product.damaged:
            return None
        return product if self._whole(product) else None

    @contextlib.contextmanager
    def lock(self, recipe_key: str, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the right to build a recipe; among processes and machines, one holds it at a time.

        Look up, lock, look up again, build, add: then a product is built once. The lock is free at once
        when its holder is killed. The wait for it can be interrupted.

        Parameters
        ----------
        recipe_key
            The recipe.
        waiting
            Called once when somebody else holds the lock.
        """
        number = int.from_bytes(bytes.fromhex(recipe_key[:16]), "big", signed=True)
        with self.database.lock(number, waiting):
            yield

    def add_product(
        self,
        kind: str,
        file: Path,
        *,
        name: str,
        facts: FrameFacts,
        span: tuple[datetime, datetime],
        inputs: Sequence[InputRef],
        parameters: BaseModel | dict[str, Any],
        metrics: BaseModel | dict[str, Any],
        recipe_key: str,
        algorithm_version: str,
        flow_run_id: str | None = None,
        preview: str | None = None,
        static: bool = False,
        move: bool = False,
        author: str = "pipeline",
    ) -> Product:
        """Add a product: the file first, then its rows in one transaction.

        Where the recipe has a product already, that one is returned and nothing changes.

        Parameters
        ----------
        kind
            ``dark``, ``flat``, ``bpm``, ``skyflat`` or ``image``.
        file
            The product's file; copied, or taken where ``move`` is true.
        name
            The name that the product shall have as a file.
        facts
            Facts of its first input: what the product serves follows from them.
        span
            Beginning and end of its inputs' exposures.
        inputs
            Frames (ingested) and products (added) that it was made from, in order.
        parameters, metrics
            How it was made and how good it is.
        recipe_key, algorithm_version
            See `recipe_key`.
        flow_run_id
            The run that made it.
        preview
            File name of its preview.
        static
            A bad pixel mask that holds from its date on.
        author
            Who adds it, for the log of its status.

        Raises
        ------
        StoreError
            Where the file cannot be stored, an input is not known, or the name is not plain.
        """
        new = products.NewProduct(
            kind=kind, name=name, recipe_key=recipe_key,
            configuration=configuration(kind, facts, static=static), span=span,
            facts=facts.model_dump(mode="json"), inputs=inputs, parameters=_values(parameters),
            metrics=_values(metrics), algorithm_version=algorithm_version, flow_run_id=flow_run_id,
            preview=preview, author=author,
        )  # fmt: skip
        there = self.find(recipe_key)
        if there is not None:
            return there
        stored = self.objects.put(file, move=move)
        with self.database.begin() as connection:
            return products.add(connection, new, stored, self.objects)

    def set_status(
        self,
        product: Product,
        status: Status,
        *,
        author: str,
        reason: str,
        validity: tuple[datetime | None, datetime | None] | None = None,
    ) -> Product:
        """Certify (with a validity: from, included, to, excluded), reject or supersede a product.

        Raises
        ------
        StoreError
            Where another certified product of the configuration is valid at the time.
        """
        with self.database.begin() as connection:
            products.set_status(connection, product, status, author=author, reason=reason, validity=validity)
        return self.get(product.id)

    def products(
        self, kind: str | None = None, *, status: Status | None = None, limit: int = 1000
    ) -> tuple[Product, ...]:
        """Products, newest first."""
        if kind is not None:
            rules_for(kind)
        with self.database.begin() as connection:
            return products.listed(connection, self.objects, kind=kind, status=status, limit=limit)

    def get(self, name: str | UUID) -> Product:
        """The one product of that id, file name, or first digits of id, sha256 or recipe key.

        Raises
        ------
        StoreError
            Where there is none, or several; names them.
        """
        with self.database.begin() as connection:
            found = products.named(connection, self.objects, str(name))
        if not found:
            raise StoreError(
                f"The store has no product {str(name)!r}.",
                remedy="See `nirflow cal list` for names and ids.",
            )
        if len(found) > 1:
            several = ", ".join(f"{p.id} ({p.name}, made {p.made_at:%Y-%m-%d %H:%M})" for p in found[:5])
            raise StoreError(
                f"{str(name)!r} may be any of {len(found)} products: {several}.",
                remedy="Give the id.",
            )
        return found[0]

    def known(self, kind: str, *, sha256: str, recipe_key: str = "") -> tuple[Product, ...]:
        """Products of ``kind`` with a file of those bytes or made by that recipe; nirflow's own first."""
        with self.database.begin() as connection:
            found = {
                product.id: product
                for name in (sha256, recipe_key)
                if name
                for product in products.named(connection, self.objects, name)
                if product.kind == kind and name in (product.sha256, product.recipe_key)
            }
        return tuple(sorted(found.values(), key=lambda product: product.algorithm_version == "adopted"))

    def inputs_of(self, product: Product) -> tuple[InputRef, ...]:
        """What a product was made from, in order."""
        with self.database.begin() as connection:
            return products.inputs_of(connection, product.id)

    def lineage(self, product: Product) -> Lineage:
        """All that a product was made from, through all generations, up to the raw frames."""
        with self.database.begin() as connection:
            return products.lineage(connection, product.id)

    def file_of(self, product: Product) -> Path:
        """The product's file after a check, for reading only.

        Raises
        ------
        StoreError
            Where it is missing or damaged; the product is then not found any more until it is made again.
        """
        if not self._whole(product):
            raise StoreError(
                f"The file of {product.name} ({product.id}) is missing or damaged.",
                remedy="Reduce again: it will be made anew, or the next best taken.",
            )
        return product.path

    def export_file(self, product: Product, destination: Path) -> Path:
        """Copy a product's file, verified, to a path or into a folder; returns the path."""
        self.file_of(product)
        target = destination / product.name if destination.is_dir() else destination
        self.objects.export(product.sha256, target)
        return target

    # Choices

    def match(
        self,
        facts: FrameFacts,
        kind: str,
        *,
        as_of: datetime | None = None,
        prefer: Sequence[UUID] = (),
    ) -> Match:
        """The product of ``kind`` that serves a frame, or none; always the same one.

        A certified product serves inside its validity, a candidate inside the window of its rule. Among
        those: certified before candidate, then those in ``prefer``, then the nearest in time, earlier
        before later, newest made, id. One whose file is damaged is set aside and the next taken.

        Parameters
        ----------
        facts
            The frame.
        kind
            Kind of the product.
        as_of
            Choose as the store would have chosen at that moment.
        prefer
            Products made from the frame's own night.
        """
        with self.database.begin() as connection:
            found = matching.serving(connection, facts, kind, self.objects, as_of=as_of, prefer=prefer)
        taken = None
        considered: list[tuple[Product, str | None]] = []
        for product in found:
            failure = None
            if taken is None:
                if self._whole(product):
                    taken = product
                else:
                    failure = "its file is missing or damaged"
            considered.append((product, failure))
        candidates = matching.told(considered, taken, facts, prefer)
        return Match(facts.name, kind, taken, candidates, RULES_VERSION, as_of)

    def explain(
        self,
        facts: FrameFacts,
        kind: str,
        *,
        as_of: datetime | None = None,
        prefer: Sequence[UUID] = (),
    ) -> Match:
        """`match`, with the products that do not serve too, each with the first rule that it fails."""
        match = self.match(facts, kind, as_of=as_of, prefer=prefer)
        with self.database.begin() as connection:
            others = matching.of_kind(
                connection, facts, kind, self.objects, as_of=as_of, prefer=prefer, limit=_EXPLAINED
            )
        told = {candidate.product.id for candidate in match.candidates}
        considered = [(p, matching.judge(p, facts)) for p in others if p.id not in told]
        rest = matching.told(considered, match.product, facts, prefer)
        return Match(facts.name, kind, match.product, (*match.candidates, *rest), RULES_VERSION, as_of)

    def record_decisions(self, made: Sequence[Decision]) -> None:
        """Note which products were taken for which frames, with all that was considered."""
        with self.database.begin() as connection:
            decisions.record(connection, made)

    def record_decision(
        self,
        frame_sha256: str,
        match: Match,
        *,
        product: Product | None = None,
        override: Override | None = None,
        flow_run_id: str | None = None,
    ) -> None:
        """Note one decision: the match's own product, or ``product`` where somebody overrode it."""
        taken = product if override is not None else match.product
        self.record_decisions([Decision(frame_sha256, match, taken, override, flow_run_id)])

    def _whole(self, product: Product) -> bool:
        if self.objects.verify(product.sha256):
            return True
        with self.database.begin() as connection:
            products.mark_damaged(connection, product)
        return False


def _values(values: BaseModel | dict[str, Any]) -> dict[str, Any]:
    return values.model_dump(mode="json") if isinstance(values, BaseModel) else dict(values)

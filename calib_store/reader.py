"""Read-only access to the store: through connections that cannot write, and without its files.

Nothing is started, created or brought up to date here. All transactions are read-only, and run as ``nirflow_reader`` if
the account may assume that role.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import URL, Connection, Row, event

from calib_store.choice import choose, matching
from calib_store.choice.serving import kinds_for
from calib_store.migrations import require_head
from calib_store.migrations.roles import READER
from calib_store.model.records import Frame, LineageEdge, Match, Product, Run, Status, StatusChange
from calib_store.model.settings import StoreSettings
from calib_store.server import postgres
from calib_store.tables import decisions, frames, lineage, products, runs, status, status_log, tiers
from calib_store.tables.arrivals import recent_frames
from calib_store.tables.database import Database, checked_url
from calib_store.tables.raw_frames import RawFrames
from imaging.frames.facts import FrameFacts

#: Longest time that a page may take to generate, s.
_PATIENCE: Final = 2.0
_LONGEST_STATEMENT: Final = 20_000  # ms
#: Products on either side in time that an explanation covers, in addition to those that serve.
_EXPLAINED: Final = 10


@dataclass(frozen=True)
class ProductDetails:
    """A product with everything related to it.

    Attributes
    ----------
    inputs
        What it was made from, directly.
    frames
        How many raw frames it was made from in all generations.
    rejected
        Which of its ancestors are rejected.
    chosen
        The latest decisions to use it, with the frame's name, and the total number of frames that it was used for.
    """

    product: Product
    inputs: tuple[LineageEdge, ...]
    frames: int
    rejected: tuple[tiers.RejectedAncestor, ...]
    users: tuple[Product, ...]
    history: tuple[StatusChange, ...]
    chosen: Sequence[Row[Any]]
    chosen_for: int


@dataclass(frozen=True)
class FrameDetails:
    """A raw frame: its status, which products it would get now and why, and which it got."""

    frame: Frame
    matches: tuple[Match, ...]
    decisions: Sequence[Row[Any]]
    users: tuple[Product, ...]
    history: tuple[StatusChange, ...]


class Reader:
    """Read-only access to the store that the settings name; may be shared between threads.

    Parameters
    ----------
    settings
        Where it is.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.database = Database(_url(settings), patience=_PATIENCE)
        event.listen(self.database.engine, "connect", _as_reader)
        self._is_current = False

    def close(self) -> None:
        """Close the connections."""
        self.database.close()

    def products(
        self,
        *,
        kind: str | None = None,
        status: Status | None = None,
        night: date | None = None,
        after: UUID | None = None,
        limit: int,
    ) -> tuple[Product, ...]:
        """Return products, newest first: see `calib_store.store.Store.products`; ``after`` is the last one's id."""

        def ask(connection: Connection) -> tuple[Product, ...]:
            last = products.with_ids(connection, [after]) if after is not None else ()
            return products.listed(
                connection,
                kind=kind,
                status=status,
                night=night,
                after=last[0] if last else None,
                limit=limit,
            )

        return self._read(ask)

    def product(self, wanted: UUID) -> ProductDetails | None:
        """Return a product, or None if the store has none of that id."""

        def ask(connection: Connection) -> ProductDetails | None:
            found = products.with_ids(connection, [wanted])
            if not found:
                return None
            whole = lineage.lineage(connection, wanted)
            return ProductDetails(
                product=found[0],
                inputs=tuple(edge for edge in whole.edges if edge.product_id == wanted),
                frames=len(whole.frames),
                rejected=tuple(tiers.rejected_ancestors(connection, wanted)),
                users=products.with_ids(connection, lineage.affected(connection, wanted)),
                history=status_log.history(connection, wanted),
                chosen=decisions.of_product(connection, wanted),
                chosen_for=decisions.count_of_product(connection, wanted),
            )

        return self._read(ask)

    def frame(self, sha256: str) -> FrameDetails | None:
        """Return a raw frame, or None if the store knows none of that sha256."""
        found = self._read(lambda connection: frames.with_sha256s(connection, [sha256])).get(sha256)
        if found is None:
            return None
        facts = found.facts
        questions = () if facts is None else tuple(choose.Question(facts, kind) for kind in kinds_for(facts))
        matches = tuple(choose.explain(self.database, one, _flaw_of, _EXPLAINED) for one in questions)

        def ask(connection: Connection) -> FrameDetails:
            return FrameDetails(
                frame=found,
                matches=matches,
                decisions=decisions.of_frame(connection, sha256),
                users=products.with_ids(connection, lineage.affected(connection, sha256)),
                history=status.frame_status_history(connection, sha256),
            )

        return self._read(ask)

    def new_frames(self, known: Collection[str] = ()) -> recent_frames.News:
        """Return the usable raw frames that no run has had; of ``known`` ones only that they are there."""
        return self._read(lambda connection: recent_frames.new(connection, known))

    def frames_of_night(self, night: date) -> tuple[Frame, ...]:
        """Return the raw frames with facts of a night, in order of time."""
        self._require_current()
        return RawFrames(self.database).of_nights(night, night)

    def serving(self, facts: FrameFacts, kind: str) -> Product | None:
        """Return the product of a kind that serves a frame, if any; its file is not examined."""
        self._require_current()
        return choose.match(self.database, choose.Question(facts, kind), _flaw_of).product

    def changes_of(self, product: UUID) -> int:
        """Return how often the status of a product changed."""
        return len(self._read(lambda connection: status_log.history(connection, product)))

    def quarantined(self, limit: int) -> tuple[int, tuple[recent_frames.Quarantined, ...]]:
        """Return how many files are in quarantine, and the newest of them."""
        return self._read(lambda connection: recent_frames.quarantined(connection, limit))

    def waiting(self, since: datetime) -> tuple[Run, ...]:
        """Return the last runs of the sequences that wait: see `calib_store.tables.runs.Runs.waiting`."""
        return self._read(lambda connection: runs.waiting(connection, since))

    def _read(self, ask: Any) -> Any:
        self._require_current()
        return self.database.read(ask)

    def _require_current(self) -> None:
        if not self._is_current:
            self.database.persist(lambda: require_head(self.database.engine))
            self._is_current = True


def _url(settings: StoreSettings) -> URL:
    if settings.database_url is None:
        url = postgres.address_of(settings.data_dir).url("nirflow")
    else:
        url = checked_url(settings.database_url.get_secret_value())
    given = url.query.get("options", "")
    options = f"{given} -c default_transaction_read_only=on -c statement_timeout={_LONGEST_STATEMENT}"
    return url.update_query_dict({"options": options.strip()})


def _as_reader(connection: Any, _: object) -> None:
    """Make a connection act as a reader if its account is a member of that role or may assume any."""
    connection.execute(
        "SELECT set_config('role', rolname, false) FROM pg_roles "
        "WHERE rolname = %s AND pg_has_role(session_user, oid, 'SET')",
        [READER],
    )
    connection.commit()


def _flaw_of(product: Product) -> str | None:
    """Return the flaw that the store has recorded for a file; a reader opens no files."""
    return matching.DAMAGED if product.damaged else None

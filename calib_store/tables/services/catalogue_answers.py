"""The answers of services that were asked for reference stars, kept so that a repeated run needs no network."""

from __future__ import annotations

import contextlib
import hashlib
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, insert, select

from calib_store.tables.database import Database
from calib_store.tables.locks import lock_number
from calib_store.tables.schema import catalogue_answers
from imaging.errors import StoreError

#: Maximum size of an answer, and of its compressed form, bytes: a row has to fit into a backup.
LARGEST_ANSWER: Final = 256 * 1024**2
_LARGEST_ROW: Final = 24 * 1024**2
#: Regions that an answer covers may exceed it by this, deg: the rounding of a centre.
_TOLERANCE: Final = 1e-6


@dataclass(frozen=True)
class Question:
    """What a service was asked for.

    Attributes
    ----------
    service
        The service: ``vizier``.
    catalogue
        The table that it was asked for: ``II/246/out``.
    ra, dec, radius
        The region, deg, ICRS.
    """

    service: str
    catalogue: str
    ra: float
    dec: float
    radius: float

    @property
    def label(self) -> str:
        """The question as messages name it."""
        place = f"{self.radius * 60:.1f} arcmin around {self.ra:.4f} {self.dec:+.4f} deg"
        return f"{self.service}:{self.catalogue}, {place}"


@dataclass(frozen=True)
class Answer:
    """The answer of a service.

    Attributes
    ----------
    question
        What was asked for; its region may be larger than the one that is needed.
    content
        The bytes of the answer.
    sha256
        Of these bytes.
    asked_at
        When it was asked, with its time zone.
    """

    question: Question
    content: bytes
    sha256: str
    asked_at: datetime


class CatalogueAnswers:
    """The answers of services in one database; `calib_store.store.Store.answers`.

    Parameters
    ----------
    database
        Where the rows are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(
        self, question: Question, *, since: datetime | None = None, as_of: datetime | None = None
    ) -> Answer | None:
        """Return the earliest answer about the catalogue that covers the region; None if there is no such answer.

        Because it is the earliest, later answers do not change what a repeated run uses.

        Parameters
        ----------
        question
            Service, catalogue and region.
        since
            Only answers from this time on.
        as_of
            Only answers that the store had at this time.

        Raises
        ------
        StoreError
            If the record of the answer is damaged.
        """
        return self._database.run(lambda connection: _find(connection, question, since, as_of))

    def add(self, question: Question, content: bytes) -> Answer:
        """Record the answer to a question that was just asked, and return it.

        Raises
        ------
        StoreError
            If it is too large.
        """
        packed = zlib.compress(content, 6)
        if len(content) > LARGEST_ANSWER or len(packed) > _LARGEST_ROW:
            raise StoreError(
                f"The answer to {question.label} is too large for the store ({len(content) / 1024**2:.0f} MB).",
                remedy="Use a local file of this catalogue.",
            )
        return self._database.run(lambda connection: _add(connection, question, content, packed))

    @contextlib.contextmanager
    def asking(self, question: Question, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the exclusive right, across processes, to ask a service this question.

        Look up, ask for the right, look up again, ask the service, add: so a service is asked only once.
        """
        digest = hashlib.sha256(f"catalogue {question!r}".encode()).hexdigest()
        with self._database.lock(lock_number(digest), waiting=waiting):
            yield


def unpacked(packed: bytes, sha256: str) -> bytes:
    """Return the answer in a row.

    Raises
    ------
    ValueError
        If it is damaged or too large.
    """
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(packed, LARGEST_ANSWER)
    except zlib.error as error:
        raise ValueError(f"an answer that cannot be unpacked: {error}") from None
    if not unpacking.eof or hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("an answer that is not the one of its sha256")
    return content


def _find(
    connection: Connection, question: Question, since: datetime | None, as_of: datetime | None
) -> Answer | None:
    one = catalogue_answers
    query = (
        select(one.c.id, one.c.ra, one.c.dec, one.c.radius, one.c.asked_at, one.c.sha256)
        .where(one.c.service == question.service, one.c.catalogue == question.catalogue)
        .where(one.c.radius >= question.radius - _TOLERANCE)
        .where(one.c.dec.between(question.dec - one.c.radius, question.dec + one.c.radius))
        .order_by(one.c.asked_at, one.c.id)
    )
    if since is not None:
        query = query.where(one.c.asked_at >= since)
    if as_of is not None:
        query = query.where(one.c.asked_at <= as_of)
    for row in connection.execute(query):
        away = _distance(row.ra, row.dec, question.ra, question.dec)
        if away + question.radius <= row.radius + _TOLERANCE:
            packed = connection.execute(select(one.c.answer).where(one.c.id == row.id)).scalar_one()
            asked = Question(question.service, question.catalogue, row.ra, row.dec, row.radius)
            try:
                content = unpacked(bytes(packed), row.sha256)
            except ValueError as error:
                raise StoreError(
                    f"The store's record of {asked.label} cannot be read: {error}.",
                    remedy="Restore the database from a backup, or use answers since a later time: "
                    "catalogue.asked_since.",
                ) from error
            return Answer(asked, content, row.sha256, row.asked_at)
    return None


def _add(connection: Connection, question: Question, content: bytes, packed: bytes) -> Answer:
    sha256 = hashlib.sha256(content).hexdigest()
    values = {
        "service": question.service, "catalogue": question.catalogue, "ra": question.ra % 360.0, "dec": question.dec,
        "radius": question.radius, "sha256": sha256, "answer": packed,
    }  # fmt: skip
    written = insert(catalogue_answers).values(values).returning(catalogue_answers.c.asked_at)
    return Answer(question, content, sha256, connection.execute(written).scalar_one())


def _distance(ra: float, dec: float, ra0: float, dec0: float) -> float:
    """Return the distance of two positions, all in deg, by the haversine formula."""
    a, d, a0, d0 = map(math.radians, (ra, dec, ra0, dec0))
    h = math.sin((d - d0) / 2) ** 2 + math.cos(d) * math.cos(d0) * math.sin((a - a0) / 2) ** 2
    return math.degrees(2 * math.asin(math.sqrt(min(1.0, h))))

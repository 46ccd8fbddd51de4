"""Events for the Prefect server, sent over HTTP by processes that do not import Prefect."""

from __future__ import annotations

import json
import logging
import time
import urllib.parse
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from deployments.http_client import NoAnswerError
from deployments.prefect_api.connection import TOKENS, Connection, RefusedError
from deployments.prefect_api.urgency import Urgency
from imaging.errors import NirflowError
from imaging.frames.sequences import Sequence as Exposures

log = logging.getLogger(__name__)

#: A new usable frame is in the store.
ARRIVED: Final = "nirflow.frame.arrived"
#: The same, and with it the sequence has as many frames as are expected of it.
COMPLETE: Final = "nirflow.sequence.complete"
#: The calibrations that a sequence waited for are there.
UNBLOCKED: Final = "nirflow.sequence.unblocked"
#: What precedes a sequence's name in the id of its events' resource.
SEQUENCE: Final = "nirflow.sequence."

#: Events in one request.
_AT_A_TIME: Final = 100
#: Answers by which the server refuses what was sent, not that it was sent now or by us.
_REFUSALS: Final = (400, 413, 422)
_LONGEST_ANSWER: Final = 4096
#: Between two questions whether events are recorded, s: the first, doubled up to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
#: Between two attempts to deliver events, s: the first, doubled up to the last.
_FIRST_REST, _LONGEST_REST = 1.0, 30.0
#: How long a flow tries to deliver an event before it reports it as lost, s.
DELIVERY: Final = 600.0
#: Events are sought by their ids within these limits: clocks of client and server may differ.
_LOOKBACK, _LOOKAHEAD = timedelta(days=3650), timedelta(days=1)


def labels_of(sequence: Exposures, urgency: Urgency) -> dict[str, str]:
    """The labels of a sequence, by which triggers tell its events from others."""
    return {
        "prefect.resource.name": sequence.label,
        "nirflow.kind": sequence.kind,
        "nirflow.night": str(sequence.night),
        "nirflow.urgency": urgency,
    }


class EventsError(NirflowError):
    """The Prefect server did not take events; sent later, they may be taken."""


class EventsRefusedError(EventsError):
    """The Prefect server cannot make sense of an event; sent again, it will not either."""


class Event(BaseModel):
    """Something that happened, for the automations of the Prefect server.

    The moment that the server goes by is the one of sending: its triggers pass over events that are older
    than those they have seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: uuid.UUID = Field(
        default_factory=uuid.uuid4, description="sent again, an event is kept once by the server"
    )
    name: str = Field(description="what happened: nirflow.frame.arrived")
    resource: str = Field(min_length=1, description="id of what it happened to")
    labels: dict[str, str] = Field(default_factory=dict, description="further labels of the resource")
    related: tuple[dict[str, str], ...] = Field(
        default=(), description="other resources, each with prefect.resource.id and prefect.resource.role"
    )
    payload: dict[str, Any] = Field(default_factory=dict, description="anything else, as JSON can hold it")

    def as_json(self, occurred: datetime) -> dict[str, Any]:
        """The event as the server's API has it."""
        return {
            "id": str(self.id),
            "occurred": occurred.isoformat(),
            "event": self.name,
            "resource": {**self.labels, "prefect.resource.id": self.resource},
            "related": list(self.related),
            "payload": self.payload,
        }


class EventSender:
    """The way to the events of one Prefect server. Threads may share it.

    Parameters
    ----------
    api_url
        As in PREFECT_API_URL: ``http://127.0.0.1:4210/api``.
    auth
        As in PREFECT_API_AUTH_STRING: ``user:password``.
    timeout
        How long to wait for an answer, s.
    patience
        How long to wait until events that the server has accepted are recorded, s.
    """

    def __init__(
        self,
        api_url: str,
        auth: SecretStr | None = None,
        *,
        timeout: float = 30.0,
        patience: float = 10.0,
    ) -> None:
        parts = urllib.parse.urlsplit(api_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EventsError(
                f"{api_url} is no address of a Prefect server.", remedy="Write it as http://host:4200/api."
            )
        word = auth.get_secret_value() if auth is not None else None
        self._connection = Connection(api_url, word, timeout)
        self._patience = patience

    @property
    def api_url(self) -> str:
        """Where the server is."""
        return self._connection.api_url

    def __repr__(self) -> str:
        return f"EventSender({self.api_url!r})"

    def emit(self, events: Sequence[Event]) -> None:
        """Send events, in their order; when this returns the server has recorded all of them.

        The server answers as soon as it holds events in memory. There they are lost when it is killed, and
        dropped when a queue is full; so the next ones are sent when these are in its database.

        Raises
        ------
        EventsError
            Where the server does not answer, or does not record the events in time. Some of them may be recorded;
            sending all again does no harm.
        EventsRefusedError
            Where an event is one that the server does not accept.
        """
        for first in range(0, len(events), _AT_A_TIME):
            batch = events[first : first + _AT_A_TIME]
            occurred = datetime.now(UTC)
            self._post("/events", [event.as_json(occurred) for event in batch])
            self._wait_until_recorded({event.id for event in batch}, occurred)

    def deliver(self, events: Sequence[Event], within: float = DELIVERY) -> None:
        """Send events, and send them again while the server does not record them.

        Parameters
        ----------
        events
            In their order.
        within
            How long to try, s.

        Raises
        ------
        EventsError
            Where the server has not recorded them by then, or refuses one.
        """
        deadline, pause = time.monotonic() + within, _FIRST_REST
        while True:
            try:
                return self.emit(events)
            except EventsRefusedError:
                raise
            except EventsError as error:
                if time.monotonic() + pause > deadline:
                    raise
                log.warning("%s Sending the events again in %g s.", error, pause)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_REST)

    def _wait_until_recorded(self, ids: set[uuid.UUID], occurred: datetime) -> None:
        query = {
            "filter": {
                "id": {"id": sorted(map(str, ids))},
                "occurred": {
                    "since": (occurred - _LOOKBACK).isoformat(),
                    "until": (occurred + _LOOKAHEAD).isoformat(),
                },
            },
            "limit": 1,
        }
        deadline, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while (recorded := self._count(query)) < len(ids):
            if time.monotonic() > deadline:
                raise EventsError(
                    f"The Prefect server at {self.api_url} has accepted {len(ids)} events, but recorded "
                    f"only {recorded} of them within {self._patience:g} s.",
                    remedy="Nothing needs doing: they are sent again. If this goes on, look into the server's log.",
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _count(self, query: dict[str, Any]) -> int:
        answer = self._post("/events/filter", query)
        try:
            return int(json.loads(answer)["total"])
        except (ValueError, KeyError, TypeError) as error:
            raise EventsError(
                f"The Prefect server at {self.api_url} gives no count of its events: {answer[:200]!r}.",
                remedy="Look into the log of the server.",
            ) from error

    def _post(self, path: str, body: Any) -> bytes:
        try:
            return self._connection.post(path, json.dumps(body).encode())
        except RefusedError as refused:
            raise self._refusal(refused) from refused
        except (NoAnswerError, ValueError) as error:
            raise EventsError(
                f"The Prefect server at {self.api_url} does not answer: {error}.",
                remedy="Start it (nirflow server start), or correct its address.",
            ) from error

    def _refusal(self, refused: RefusedError) -> EventsError:
        answer = refused.answer
        said = answer.body[:_LONGEST_ANSWER].decode(errors="replace")
        told = f"The Prefect server at {self.api_url} answered {answer.status} ({said or answer.reason})."
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return EventsError(told, remedy="Set PREFECT_API_AUTH_STRING to the server's.")
        if answer.status in _REFUSALS and not refused.path.startswith(TOKENS):
            return EventsRefusedError(told, remedy="Client and server are of different versions.")
        return EventsError(told, remedy="Look into the log of the server.")

"""Events for the Prefect server, sent over HTTP without importing Prefect."""

from __future__ import annotations

import json
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
from imaging.errors import NirflowError

#: Events in one request.
_AT_A_TIME: Final = 100
#: Codes with which the server refuses the content, as opposed to the time or the sender.
_REFUSALS: Final = (400, 413, 422)
_LONGEST_ANSWER: Final = 4096
#: Pause between two checks whether events are recorded, s: the first, doubled up to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
#: Limits of the time in queries for events by id: clocks of client and server may differ.
_LOOKBACK, _LOOKAHEAD = timedelta(days=3650), timedelta(days=1)


class EventsError(NirflowError):
    """Events that the Prefect server did not accept, but may accept later."""


class EventsRefusedError(EventsError):
    """Events that the Prefect server rejects as invalid, and will reject again."""


class Event(BaseModel):
    """Something that happened, for the automations of the Prefect server.

    Its time is the time of sending: the server's triggers ignore events that are older than those they have seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: uuid.UUID = Field(
        default_factory=uuid.uuid4, description="the server keeps an event once, even if sent twice"
    )
    name: str = Field(description="what happened: nirflow.sequence.judged")
    resource: str = Field(min_length=1, description="id of the resource")
    labels: dict[str, str] = Field(default_factory=dict, description="further labels of the resource")
    related: tuple[dict[str, str], ...] = Field(
        default=(), description="other resources, each with prefect.resource.id and prefect.resource.role"
    )
    payload: dict[str, Any] = Field(
        default_factory=dict, description="any other data that JSON can represent"
    )

    def as_json(self, occurred: datetime) -> dict[str, Any]:
        """Return the event in the form of the server's API."""
        return {
            "id": str(self.id),
            "occurred": occurred.isoformat(),
            "event": self.name,
            "resource": {**self.labels, "prefect.resource.id": self.resource},
            "related": list(self.related),
            "payload": self.payload,
        }


class EventSender:
    """A sender of events to one Prefect server. Threads may share it.

    Parameters
    ----------
    api_url
        As in PREFECT_API_URL: ``http://127.0.0.1:4210/api``.
    auth
        As in PREFECT_API_AUTH_STRING: ``user:password``.
    timeout
        How long to wait for a response, s.
    patience
        How long to wait until accepted events are recorded, s.
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
                f"{api_url} is not the address of a Prefect server.",
                remedy="Write it as http://host:4200/api.",
            )
        secret = auth.get_secret_value() if auth is not None else None
        self._connection = Connection(api_url, secret, timeout)
        self._patience = patience

    @property
    def api_url(self) -> str:
        """The URL of the server's API."""
        return self._connection.api_url

    def __repr__(self) -> str:
        return f"EventSender({self.api_url!r})"

    def emit(self, events: Sequence[Event]) -> None:
        """Send events in order, and return when the server has recorded all of them.

        The server responds as soon as it has events in memory, where they are lost if it is killed, and dropped if a
        queue is full. So the next batch is sent only when the previous one is in its database.

        Raises
        ------
        EventsError
            If the server does not respond, or does not record the events in time. Some of them may be recorded;
            sending all again does no harm.
        EventsRefusedError
            If the server rejects an event as invalid.
        """
        for first in range(0, len(events), _AT_A_TIME):
            batch = events[first : first + _AT_A_TIME]
            occurred = datetime.now(UTC)
            self._post("/events", [event.as_json(occurred) for event in batch])
            self._wait_until_recorded({event.id for event in batch}, occurred)

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
                    remedy="No action is needed: they are sent again. If this continues, see the server's log.",
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _count(self, query: dict[str, Any]) -> int:
        answer = self._post("/events/filter", query)
        try:
            return int(json.loads(answer)["total"])
        except (ValueError, KeyError, TypeError) as error:
            raise EventsError(
                f"The Prefect server at {self.api_url} did not return a count of events: {answer[:200]!r}.",
                remedy="See the log of the server.",
            ) from error

    def _post(self, path: str, body: Any) -> bytes:
        try:
            return self._connection.post(path, json.dumps(body).encode())
        except RefusedError as refused:
            raise self._refusal(refused) from refused
        except (NoAnswerError, ValueError) as error:
            raise EventsError(
                f"The Prefect server at {self.api_url} does not respond: {error}.",
                remedy="Start it (nirflow server start), or correct its address.",
            ) from error

    def _refusal(self, refused: RefusedError) -> EventsError:
        answer = refused.answer
        text = answer.body[:_LONGEST_ANSWER].decode(errors="replace")
        message = f"The Prefect server at {self.api_url} answered {answer.status} ({text or answer.reason})."
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return EventsError(message, remedy="Set PREFECT_API_AUTH_STRING to the server's USER:PASSWORD.")
        if answer.status in _REFUSALS and not refused.path.startswith(TOKENS):
            return EventsRefusedError(message, remedy="Client and server are of different versions.")
        return EventsError(message, remedy="See the log of the server.")

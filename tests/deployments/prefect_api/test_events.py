"""Events sent to Prefect servers: a real one, and ones with bad answers."""

from __future__ import annotations

import base64
import os
import signal
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fake_prefect import FakeServer, fake_prefect
from pydantic import SecretStr
from waiting import PATIENCE

from calib_store.server import postgres
from deployments.prefect_api.events import Event, EventSender, EventsError, EventsRefusedError
from deployments.settings.server_settings import ServerAddress


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_prefect() as fake:
        yield fake


def event(**changes: Any) -> Event:
    return Event(**({"name": "nirflow.test", "resource": "nirflow.sequence.x"} | changes))


def test_events_arrive_at_a_prefect_server(prefect_server: ServerAddress) -> None:
    from prefect.client.orchestration import get_client
    from prefect.events.filters import EventFilter, EventNameFilter

    name = f"nirflow.test.{uuid.uuid4().hex}"
    related = {"prefect.resource.id": "nirflow.night.2013-11-21", "prefect.resource.role": "night"}
    sent = [
        event(
            name=name, labels={"prefect.resource.name": "science Y", "nirflow.kind": "science"}, related=(related,),
            payload={"frame": f"S{number}.fits\n\x7f\N{SNOWMAN}", "number": number},
        )
        for number in range(150)
    ]  # fmt: skip
    sender = EventSender(prefect_server.api_url, SecretStr(prefect_server.auth or ""), patience=PATIENCE)
    sender.emit(sent)
    sender.emit(sent[:50])  # again: kept once
    got: dict[str, Any] = {}
    wanted = EventFilter(event=EventNameFilter(name=[name])).model_dump(mode="json")
    with get_client(sync_client=True) as client:
        # All are recorded, so there is nothing to wait for. Every page has the count at the time of the first one.
        page = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 50}).json()
        assert page["total"] == len(sent)
        while True:
            got.update({one["id"]: one for one in page["events"]})
            if not page["next_page"]:
                break
            page = client.request("GET", page["next_page"].removeprefix(prefect_server.api_url)).json()
    for one in sent:
        recorded = got[str(one.id)]
        assert recorded["event"] == name
        assert recorded["resource"] == {**one.labels, "prefect.resource.id": "nirflow.sequence.x"}
        assert recorded["related"] == [related]
        assert recorded["payload"] == one.payload


def test_a_prefect_server_refuses_an_invalid_event(prefect_server: ServerAddress) -> None:
    bad = event(related=({"no": "id"},))
    with pytest.raises(EventsRefusedError, match="422"):
        EventSender(prefect_server.api_url, SecretStr(prefect_server.auth or "")).emit([bad])


def test_the_schema_is_the_one_that_prefect_knows() -> None:
    from prefect.events.schemas.events import Event as Theirs

    ours = event(labels={"a": "b"}, payload={"c": 1})
    encoded = ours.as_json(datetime(2026, 1, 2, tzinfo=UTC))
    theirs = Theirs.model_validate(encoded)
    assert set(encoded) <= set(Theirs.model_fields)
    assert theirs.id == ours.id
    assert theirs.resource.id == ours.resource
    assert theirs.occurred.year == 2026


def test_the_password_is_sent_with_every_request(server: FakeServer) -> None:
    EventSender(server.api, SecretStr("me:secret")).emit([event()])
    EventSender(server.api).emit([event()])
    (path, headers, body), (_, bare, _) = server.heard
    assert path == "/api/events"
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"me:secret"
    assert len(body) == 1
    assert "Authorization" not in bare


def test_many_events_are_sent_in_order_in_several_requests(server: FakeServer) -> None:
    sent = [event() for _ in range(250)]
    EventSender(server.api).emit(sent)
    assert [len(body) for _, _, body in server.heard] == [100, 100, 50]
    assert [one["id"] for _, _, body in server.heard for one in body] == [str(one.id) for one in sent]
    EventSender(server.api).emit([])
    assert len(server.heard) == 3


def test_a_server_that_requires_a_token_gets_it(server: FakeServer) -> None:
    sender = EventSender(server.api)
    server.answers = [(403, '{"detail":"Missing CSRF token."}'), (200, '{"token": "t0ken"}'), (204, "")]
    sender.emit([event()])
    assert [path.partition("?")[0] for path, _, _ in server.heard] == [
        "/api/events",
        "/api/csrf-token",
        "/api/events",
    ]
    sender.emit([event()])
    for _, headers, _ in server.heard[2:]:
        assert headers["Prefect-Csrf-Token"] == "t0ken"
        assert headers["Prefect-Csrf-Client"] in server.heard[1][0]


@pytest.mark.parametrize("answers", [[401], [403, 422], [500], [503], [429], [404]])
def test_answers_after_which_events_are_sent_again(server: FakeServer, answers: list[int]) -> None:
    server.answers = [(code, "no") for code in answers]
    with pytest.raises(EventsError) as caught:
        EventSender(server.api, SecretStr("me:secret")).emit([event()])
    assert not isinstance(caught.value, EventsRefusedError)
    assert str(answers[-1]) in str(caught.value)
    assert "secret" not in str(caught.value)
    EventSender(server.api).emit([event()])


@pytest.mark.parametrize("code", [400, 413, 422])
def test_answers_after_which_events_are_not_sent_again(server: FakeServer, code: int) -> None:
    server.answers = [(code, "what?")]
    with pytest.raises(EventsRefusedError, match="what"):
        EventSender(server.api).emit([event()])


def test_events_that_were_accepted_but_not_recorded_are_an_error(server: FakeServer) -> None:
    """The server was killed, or its queue was full: sending them again does no harm."""
    sent = [event() for _ in range(150)]
    server.forgotten = 3
    sender = EventSender(server.api, patience=0.1)
    with pytest.raises(EventsError, match="accepted 100 events, but recorded only 97") as caught:
        sender.emit(sent)
    assert not isinstance(caught.value, EventsRefusedError)
    assert [len(body) for _, _, body in server.heard] == [100]  # no more while these are not safe
    assert "sent again" in caught.value.remedy
    sender.emit(sent)
    assert server.recorded == {str(one.id) for one in sent}


def test_a_clock_that_differs_from_the_servers_does_not_hide_events(server: FakeServer) -> None:
    EventSender(server.api).emit([event()])
    (query,) = server.counted
    now, limits = datetime.now(UTC), query["filter"]["occurred"]
    assert datetime.fromisoformat(limits["since"]) < now - timedelta(days=365)
    assert datetime.fromisoformat(limits["until"]) > now + timedelta(hours=12)


@pytest.mark.long
def test_no_event_is_lost_with_a_server_that_is_killed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deployments.prefect_server.server import ensure_server, stop_server
    from deployments.settings.server_settings import ServerSettings

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    folder, settings = tmp_path_factory.mktemp("own"), ServerSettings(port=0)
    sent = [event() for _ in range(10)]  # fewer than are written at once
    try:
        address = ensure_server(folder, settings=settings)
        assert address.pid is not None
        post, pid = EventSender._post, address.pid

        def killed(self: EventSender, path: str, body: Any) -> bytes:
            answer = post(self, path, body)
            os.kill(pid, signal.SIGKILL)
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(EventSender, "_post", killed)
            with pytest.raises(EventsError, match="does not respond"):
                EventSender(address.api_url, SecretStr(address.auth or "")).emit(sent)
        again = ensure_server(folder, settings=settings)
        sender = EventSender(again.api_url, SecretStr(again.auth or ""), patience=PATIENCE)
        assert again.started
        wanted = {"filter": {"id": {"id": [str(one.id) for one in sent]}}}
        assert sender._count(wanted) == 0  # accepted, and lost
        sender.emit(sent)
        assert sender._count(wanted) == len(sent)
    finally:
        stop_server(folder, settings=settings)
        postgres.stop(folder)


def test_a_server_that_is_down_or_silent() -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        with pytest.raises(EventsError, match="does not respond"):
            EventSender(url).emit([event()])
        silent.listen()
        with pytest.raises(EventsError, match="does not respond"):
            EventSender(url, timeout=0.2).emit([event()])


@pytest.mark.parametrize("url", ["", "ftp://host/api", "127.0.0.1:4200", "http://"])
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(EventsError, match="is not the address of a Prefect server"):
        EventSender(url)


def test_no_proxy_is_used_for_this_machine(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    EventSender(server.api).emit([event()])
    assert len(server.heard) == 1

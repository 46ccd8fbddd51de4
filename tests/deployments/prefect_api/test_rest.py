"""Requests to Prefect servers over plain HTTP: a real one, and ones with bad answers."""

from __future__ import annotations

import base64
import json
import socket
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from fake_prefect import FakeServer, fake_prefect
from prefect.client.schemas.objects import State, StateType

from deployments.prefect_api.rest import AlreadyThereError, Rest, RestError
from deployments.settings.server_settings import ServerAddress


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_prefect() as fake:
        yield fake


def test_requests_and_responses(server: FakeServer) -> None:
    server.answers = [(200, '{"a": 1}'), (200, "[]")]
    assert Rest(f"{server.api}/", "ana:hu:sh").post("/x/filter", {"b": [2]}) == {"a": 1}
    assert Rest(server.api, None).post("/x", {}) == []
    (path, headers, body), (_, bare, _) = server.heard
    assert (path, body) == ("/api/x/filter", {"b": [2]})
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"ana:hu:sh"
    assert "Authorization" not in bare


@pytest.mark.parametrize(
    ("code", "body_text", "message"),
    [
        (401, "", "refused /x: 401.*Set NIRFLOW_SERVER_AUTH"),
        (500, "", "refused /x: 500"),
        (200, "<html>", "did not respond to /x"),
    ],
)
def test_a_bad_answer_is_an_error_without_the_password(
    server: FakeServer, code: int, body_text: str, message: str
) -> None:
    server.answers = [(code, body_text)]
    with pytest.raises(RestError, match=message) as caught:
        Rest(server.api, "ana:hush").post("/x", {})
    assert "hush" not in str(caught.value)
    assert not isinstance(caught.value, AlreadyThereError)


def test_a_server_that_is_down_or_hangs_up() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/api"
        with pytest.raises(RestError, match="did not respond"):
            Rest(url, None).runs(["RUNNING"])
        deaf.listen()

        def hang_up() -> None:
            connection, _ = deaf.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(RestError, match="did not respond"):
            Rest(url, None).runs(["RUNNING"])
        thread.join()


def test_no_proxy_is_used_for_this_machine(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.answers = [(200, "[]")]
    assert Rest(server.api, None).runs(["RUNNING"]) == []


def test_an_existing_pool_is_left_unchanged(server: FakeServer) -> None:
    server.answers = [(201, "{}"), (409, "{}"), (503, "{}")]
    rest = Rest(server.api, None)
    rest.make_pool("nirflow", 2)
    rest.make_pool("nirflow", 3)
    assert server.heard[0][2] == {"name": "nirflow", "type": "process", "concurrency_limit": 2}
    with pytest.raises(RestError, match="503"):
        rest.make_pool("nirflow", 2)


def test_the_time_since_the_last_heartbeat_of_a_worker(server: FakeServer) -> None:
    last = (datetime.now(UTC) - timedelta(seconds=42)).isoformat().replace("+00:00", "Z")
    answer = json.dumps(
        [
            {"name": "other", "last_heartbeat_time": datetime.now(UTC).isoformat()},
            {"name": "mine", "last_heartbeat_time": last},
            {"name": "new", "last_heartbeat_time": None},
        ]
    )
    server.answers = [(200, answer)] * 3
    rest = Rest(server.api, None)
    silence = rest.seconds_since_heartbeat("a pool/1", "mine")
    assert silence is not None
    assert 42 <= silence < 52
    assert server.heard[0][0] == "/api/work_pools/a%20pool/1/workers/filter"
    assert rest.seconds_since_heartbeat("p", "new") is None
    assert rest.seconds_since_heartbeat("p", "nobody") is None


def test_a_real_server_understands(prefect_server: ServerAddress) -> None:
    from prefect import get_client
    from prefect.states import Running, Scheduled

    rest = Rest(prefect_server.api_url, prefect_server.auth)
    pool = f"test {uuid.uuid4().hex}"
    with get_client(sync_client=True) as client:
        rest.make_pool(pool, 3)
        rest.make_pool(pool, 4)
        made = client.read_work_pool(pool)
        assert (made.type, made.concurrency_limit) == ("process", 3)
        assert rest.seconds_since_heartbeat(pool, "w") is None
        client.send_worker_heartbeat(pool, "w", 30)
        silence = rest.seconds_since_heartbeat(pool, "w")
        assert silence is not None
        assert -1 < silence < 10
        client.delete_work_pool(pool)

        from prefect import flow

        made_flow = flow(lambda: None, name=pool)
        run = client.create_flow_run(made_flow, name="in progress", state=Running())
        other = client.create_flow_run(made_flow, name="pending", state=Scheduled())
        found = {one["id"]: one for one in rest.runs(["RUNNING", "PENDING"])}
        assert found[str(run.id)]["name"] == "in progress"
        assert found[str(run.id)]["state_name"] == "Running"
        assert "start_time" in found[str(run.id)]
        assert str(other.id) not in found
        assert str(other.id) in {one["id"] for one in rest.runs(["SCHEDULED"], limit=200)}
        for one in (run, other):
            client.delete_flow_run(one.id)


def test_a_run_that_cannot_be_rescheduled_does_not_block_others(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [{"id": str(n), "name": f"run {n}", "labels": {"prefect.worker.name": "mine"}} for n in range(3)]
    server.answers = [(200, json.dumps(runs)), (200, "{}"), (404, "{}"), (200, "{}")]
    assert Rest(server.api, None).reschedule("mine") == ["run 0", "run 2"]
    assert "run 1 could not be rescheduled" in caplog.text


def test_only_runs_of_a_stopped_worker_are_rescheduled(prefect_server: ServerAddress) -> None:
    from prefect import flow, get_client
    from prefect.states import Cancelling, Completed, Pending, Running

    rest = Rest(prefect_server.api_url, prefect_server.auth)
    name = f"test {uuid.uuid4().hex}"
    labels = {"prefect.worker.name": name}
    with get_client(sync_client=True) as client:
        made = flow(lambda: None, name=name)

        def new(state: State[None], of: dict[str, str]) -> uuid.UUID:
            run = client.create_flow_run(made, name=state.name, state=state).id
            client.update_flow_run_labels(run, of)
            return run

        mine = [new(state, labels) for state in (Running(), Pending())]
        others = [new(Completed(), labels), new(Cancelling(), labels), new(Running(), {})]
        before = [client.read_flow_run(run).state_name for run in others]
        assert sorted(rest.reschedule(name)) == ["Pending", "Running"]
        for run in map(client.read_flow_run, mine):
            assert (run.state_name, run.state_type) == ("AwaitingRetry", StateType.SCHEDULED)
            assert run.next_scheduled_start_time is not None  # a worker takes it
        assert [client.read_flow_run(run).state_name for run in others] == before
        assert rest.reschedule(name) == []
        for run_id in (*mine, *others):
            client.delete_flow_run(run_id)

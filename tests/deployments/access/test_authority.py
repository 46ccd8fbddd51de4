"""The authority layer: which requests are forwarded to Prefect, with whose password, and which are refused."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect
from waiting import PATIENCE

from deployments.access.authority import LONGEST, Authority
from deployments.access.credentials import Credentials, file_of
from deployments.access.policy import Role
from deployments.access.policy_bodies import USER_LABEL
from deployments.access.unidentified import Unidentified

OWNER, OPERATOR, VIEWER = "nirflow:own", "ana:operates", "eve:looks"
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
CREATE = f"/api/deployments/{ID}/create_flow_run"
SCHEDULE = f"/api/deployments/{ID}/schedules/{ID}"
RUN = f"/api/flow_runs/{ID}"
FILTER = "/api/flow_runs/filter"


def basic(auth: str) -> bytes:
    return b"Basic " + base64.b64encode(auth.encode())


class Prefect:
    """An application that records its requests."""

    def __init__(self) -> None:
        self.scope: Any = None
        self.body = b""
        self.answer = b"done"
        self.answers: dict[str, Any] = {}
        self.requests: list[tuple[str, str]] = []
        self.messages: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        if scope["type"] == "lifespan":
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while True:
                message = await receive()
                self.messages.append(message)
                await send({"type": "websocket.send", "text": "received"})
                if message["type"] == "websocket.disconnect":
                    return
        self.requests.append((scope["method"], scope["path"]))
        while True:
            message = await receive()
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        known = self.answers.get(scope["path"])
        await send(
            {"type": "http.response.body", "body": json.dumps(known).encode() if known else self.answer}
        )

    def header(self, name: bytes) -> list[bytes]:
        return [value for one, value in self.scope["headers"] if one == name]


class Case:
    """The layer in front of such an application."""

    def __init__(self, folder: Path) -> None:
        self.prefect = Prefect()
        given = {Role.OPERATOR: OPERATOR, Role.VIEWER: VIEWER}
        self.layer = Authority(self.prefect, Credentials(OWNER, given, folder))
        self.sent: list[Any] = []

    def ask(
        self,
        method: str,
        path: str,
        *headers: tuple[bytes, bytes],
        auth: str | None = None,
        body: bytes = b"",
        parts: int = 1,
    ) -> int:
        """Send a request with its body in parts; return the status of the answer, 0 without one."""
        size = -(-len(body) // parts) or 1
        chunks = [body[n : n + size] for n in range(0, len(body), size)] or [b""]
        waiting = [
            {"type": "http.request", "body": chunk, "more_body": n + 1 < len(chunks)}
            for n, chunk in enumerate(chunks)
        ]
        own = [(b"authorization", basic(auth))] if auth is not None else []
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [*own, *headers],
            "query_string": b"",
        }
        self.run(scope, waiting)
        return int(self.sent[0]["status"]) if self.sent else 0

    def run(self, scope: Any, waiting: list[Any]) -> None:
        async def receive() -> Any:
            return waiting.pop(0) if waiting else {"type": f"{scope['type']}.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            self.sent.append(message)

        asyncio.run(self.layer(scope, receive, send))

    @property
    def detail(self) -> str:
        return str(json.loads(self.sent[1]["body"])["detail"])


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_requests_of_the_owner_are_forwarded_unchanged(case: Case) -> None:
    body = b'{"job_variables": {"command": "x"}, "a": 1, "a": 2}' + b" " * LONGEST
    more = (b"prefect-automation-id", ID.encode())
    assert case.ask("POST", "/api/deployments/", more, auth=OWNER, body=body, parts=3) == 200
    assert case.prefect.body == body
    assert case.prefect.header(b"prefect-automation-id") == [ID.encode()]
    assert case.prefect.header(b"authorization") == [basic(OWNER)]


def test_a_read_by_a_viewer_is_forwarded_with_the_password_of_the_owner(case: Case) -> None:
    assert case.ask("POST", FILTER, auth=VIEWER, body=b'{"limit": 3}', parts=4) == 200
    assert case.prefect.body == b'{"limit": 3}'
    assert case.prefect.header(b"authorization") == [basic(OWNER)]
    assert case.prefect.header(b"content-length") == [b"12"]
    assert case.prefect.header(b"content-type") == [b"application/json"]


def test_only_required_headers_are_forwarded(case: Case) -> None:
    """Headers can name an automation as the sender, and override the method in some frameworks."""
    given = [
        (b"prefect-automation-id", b"x"), (b"prefect-automation-name", b"x"), (b"x-http-method-override", b"DELETE"),
        (b"transfer-encoding", b"chunked"), (b"content-length", b"7"), (b"cookie", b"a=b"), (b"host", b"h"),
        (b"Content-Type", b"text/plain"), (b"x-forwarded-prefix", b"/api"),
    ]  # fmt: skip
    assert case.ask("POST", FILTER, *given, auth=VIEWER, body=b"{}") == 200
    names = [name for name, _ in case.prefect.scope["headers"]]
    assert sorted(names) == [b"authorization", b"content-length", b"content-type", b"host"]
    assert case.prefect.scope["method"] == "POST"


def test_a_refusal_names_the_roles_that_may(case: Case) -> None:
    assert case.ask("POST", CREATE, auth=VIEWER, body=b"{}") == 403
    assert case.detail == "This is for the operator and the owner; you are logged in as viewer."
    assert case.prefect.scope is None
    assert dict(case.sent[0]["headers"])[b"content-type"] == b"application/json"


@pytest.mark.parametrize("auth", [VIEWER, OPERATOR])
def test_only_the_owner_sees_more_settings_than_the_ui_needs(case: Case, auth: str) -> None:
    assert case.ask("GET", "/api/admin/settings", auth=auth) == 200
    assert json.loads(case.sent[1]["body"]) == {"PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": False}
    assert case.prefect.scope is None


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", CREATE, {"work_queue_name": "nights"}, 200),
        ("POST", CREATE, {"work_queue_name": "science"}, 403),
        ("PATCH", SCHEDULE, {"active": False, "schedule": {"cron": "0 9 * * *", "day_or": None}}, 200),
        ("PATCH", SCHEDULE, {"active": False, "schedule": {"cron": "* * * * *"}}, 403),
        ("PATCH", SCHEDULE, {"active": False, "schedule": {"interval": 1}}, 403),
        ("PATCH", SCHEDULE.replace("0", "1"), {"active": False, "schedule": {"cron": "0 9 * * *"}}, 403),
    ],
)
def test_fields_of_a_deployment_that_the_ui_repeats_must_be_unchanged(
    case: Case, method: str, path: str, body: Any, status: int
) -> None:
    deployment = {"work_queue_name": "nights", "schedules": [{"id": ID, "schedule": {"cron": "0 9 * * *"}}]}
    case.prefect.answer = json.dumps(deployment).encode()
    assert case.ask(method, path, (b"x-a", b"b"), auth=OPERATOR, body=json.dumps(body).encode()) == status
    if status == 403:
        assert case.detail.startswith("An operator cannot change ")
        assert case.prefect.scope["path"] == f"/api/deployments/{path.split('/')[3]}"
        assert case.prefect.scope["method"] == "GET"
        assert [name for name, _ in case.prefect.scope["headers"]] == [b"authorization"]
    else:
        assert (case.prefect.scope["method"], case.prefect.scope["path"]) == (method, path)


@pytest.mark.parametrize(
    ("state", "runs", "flow", "status"),
    [
        ("FAILED", 1, "nightly", 200),
        ("CANCELLED", 0, "nightly", 403),
        ("SCHEDULED", 0, "nightly", 403),
        ("CANCELLED", 0, "decide", 403),
        ("COMPLETED", 1, "decide", 403),
    ],
)
def test_an_operator_cannot_retry_a_run_that_would_act_in_another_name(
    case: Case, state: str, runs: int, flow: str, status: int
) -> None:
    """Neither a pending run, nor one that was cancelled before it began, nor a decision."""
    other = ID.replace("0", "1")
    case.prefect.answers = {
        f"/api/flow_runs/{ID}": {"flow_id": other, "state_type": state, "run_count": runs},
        f"/api/flows/{other}": {"name": flow},
    }
    retry = json.dumps({"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}).encode()
    assert case.ask("POST", f"{RUN}/set_state", auth=OPERATOR, body=retry) == status
    changed = [path for method, path in case.prefect.requests if method == "POST"]
    assert changed == ([f"{RUN}/set_state"] if status == 200 else [])


def test_a_run_can_be_cancelled_in_any_state(case: Case) -> None:
    cancel = json.dumps({"state": {"type": "CANCELLING"}}).encode()
    assert case.ask("POST", f"{RUN}/set_state", auth=OPERATOR, body=cancel) == 200
    assert case.prefect.requests == [("POST", f"{RUN}/set_state")]


def test_a_form_is_not_validated_against_a_schema_of_the_client(case: Case) -> None:
    body = json.dumps(
        {"schema": {"pattern": "(a+)+$"}, "values": {"a": {"__prefect_kind": "workspace_variable"}}}
    )
    assert case.ask("POST", "/api/ui/schemas/validate", auth=OPERATOR, body=body.encode()) == 200
    assert json.loads(case.sent[1]["body"]) == {"valid": True, "errors": []}
    assert case.prefect.scope is None


def test_a_run_started_by_an_operator_is_labelled_with_the_name(case: Case) -> None:
    assert case.ask("POST", CREATE, auth=OPERATOR, body=b'{"parameters": {"request": {}}}') == 200
    assert json.loads(case.prefect.body)["labels"] == {USER_LABEL: "ana"}


def test_no_password_is_added_to_a_request_without_one(case: Case) -> None:
    case.ask("POST", "/api/deployments/", body=b"{}")
    assert case.prefect.header(b"authorization") == []


@pytest.mark.parametrize("auth", ["ana:wrong", "ana", "", "ana:operates2", "ANA:operates", "nirflow:own "])
def test_a_wrong_password_gets_the_same_answer_for_every_path(case: Case, auth: str) -> None:
    """Otherwise passwords could be tried on paths whose answers are not delayed like 401."""
    for method, path in [("POST", "/api/deployments/"), ("GET", "/api/health"), ("GET", "/api/ready"), ("GET", "/api"),
                         ("OPTIONS", FILTER), ("GET", "/api/nothing")]:  # fmt: skip
        for header in [(b"x-a", b"b"), (b"content-encoding", b"gzip"), (b"content-length", b"9999999")]:
            case.sent.clear()
            assert case.ask(method, path, header, auth=auth, body=b"{}") == 401
            assert case.detail == "The password is not that of any role."
            assert case.prefect.scope is None


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", basic(VIEWER)), (b"authorization", basic(OWNER))],
        [(b"authorization", b"Bearer " + base64.b64encode(OWNER.encode()))],
        [(b"authorization", b"Basic !!!" + base64.b64encode(OWNER.encode()))],
        [(b"authorization", b"Basic /////w==")],
        [(b"authorization", b"Basic")],
        [(b"Authorization", b"")],
    ],
)
def test_an_ambiguous_header_identifies_no_client(case: Case, headers: Any) -> None:
    assert case.ask("GET", "/api/admin/settings", *headers) == 401
    assert case.prefect.scope is None


def test_the_health_checks_need_no_password(case: Case) -> None:
    assert case.ask("GET", "/api/health") == 200


@pytest.mark.parametrize(
    "path", ["/", "/runs", "/apis", "//api/flows/", "/API/flows/", "/ui-settings", "/api.x"]
)
def test_no_password_is_forwarded_outside_the_api(case: Case, path: str) -> None:
    for auth in (VIEWER, OPERATOR):
        assert case.ask("GET", path, auth=auth) == 200
        assert case.prefect.header(b"authorization") == []


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"a": 1, "a": 2}', 400, "twice"),
        (b"\xff\xfe{\x00}\x00", 400, "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), 400, "UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', 400, "not JSON"),
        (b'{"a": NaN}', 400, "is not a number"),
        (b"a=1&b=2", 400, "not JSON"),
        (b"[" * 200_000, 400, "nested"),
        (b" " * (LONGEST + 1), 413, "longer"),
    ],
)
@pytest.mark.parametrize("parts", [1, 7])
def test_an_ambiguous_body_is_refused(case: Case, body: bytes, status: int, message: str, parts: int) -> None:
    assert case.ask("POST", FILTER, auth=VIEWER, body=body, parts=parts) == status
    assert message in case.detail
    assert case.prefect.scope is None


def test_a_compressed_body_is_refused(case: Case) -> None:
    assert case.ask("POST", FILTER, (b"content-encoding", b"gzip"), auth=VIEWER, body=b"{}") == 415


def test_the_body_of_a_read_is_not_forwarded(case: Case) -> None:
    assert case.ask("GET", f"/api/flows/{ID}", (b"content-length", b"7"), auth=VIEWER, body=b'{"a":1}') == 200
    assert case.prefect.body == b""
    assert case.prefect.header(b"content-length") == []


def test_a_client_that_disconnects_gets_no_answer(case: Case) -> None:
    scope = {"type": "http", "method": "POST", "path": FILTER, "headers": [(b"authorization", basic(VIEWER))]}
    case.run(scope, [{"type": "http.request", "body": b"{", "more_body": True}])
    assert case.sent == []
    assert case.prefect.scope is None


def socket(path: str, *messages: Any) -> tuple[Any, list[Any]]:
    opened = {"type": "websocket", "path": path, "headers": [(b"authorization", basic(OWNER))]}
    return opened, [
        {"type": "websocket.connect"},
        *({"type": "websocket.receive", **one} for one in messages),
    ]


def token(auth: Any) -> dict[str, str]:
    return {"text": json.dumps({"type": "auth", "token": auth})}


@pytest.mark.parametrize("path", ["/api/events/out", "/api/logs/out"])
def test_a_viewer_listens_with_the_password_of_the_owner(case: Case, path: str) -> None:
    case.run(*socket(path, token(VIEWER), {"text": "filter"}))
    first, second, _ = case.prefect.messages
    assert json.loads(first["text"]) == {"type": "auth", "token": OWNER}
    assert second == {"type": "websocket.receive", "text": "filter"}
    assert case.prefect.header(b"authorization") == []


@pytest.mark.parametrize("path", ["/api/events/in", "/api/work_pools/nirflow/workers/connect", "/api/new"])
@pytest.mark.parametrize("auth", [VIEWER, OPERATOR])
def test_sockets_that_send_to_the_server_are_for_the_owner(case: Case, path: str, auth: str) -> None:
    case.run(*socket(path, token(auth), {"text": "event"}))
    assert case.prefect.messages == [{"type": "websocket.disconnect", "code": 4403}]
    assert (case.sent[-1]["type"], case.sent[-1]["code"]) == ("websocket.close", 4403)
    assert case.sent[-1]["reason"].startswith("This is for the owner")


def test_a_socket_of_the_owner_is_forwarded(case: Case) -> None:
    case.run(*socket("/api/events/in", token(OWNER), {"text": "event"}))
    assert json.loads(case.prefect.messages[0]["text"])["token"] == OWNER
    assert case.prefect.messages[1]["text"] == "event"


@pytest.mark.parametrize(
    "first",
    [token("eve:wrong"), token(7), token(None), {"text": "[]"}, {"text": ""}, {"bytes": b"x"}, {"text": "{" * 99_999},
     {"text": '{"type": "auth", "token": "nirflow:own", "token": "eve:looks"}'},
     {"text": json.dumps({"type": "filter", "token": OWNER})}],
)  # fmt: skip
def test_a_socket_without_a_password_in_its_first_message_is_closed(case: Case, first: Any) -> None:
    case.run(*socket("/api/events/out", first, {"text": "more"}))
    assert case.prefect.messages == [{"type": "websocket.disconnect", "code": 1008}]
    assert case.sent[-1] == {
        "type": "websocket.close", "code": 1008, "reason": "The first message must contain the password.",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/api/events/out", "/api/logs/out"])
def test_a_socket_receives_nothing_after_its_password_is_revoked(tmp_path: Path, path: str) -> None:
    kept = file_of(tmp_path, Role.VIEWER)
    kept.write_text(f"{VIEWER}\n")
    kept.chmod(0o600)
    sent: list[Any] = []

    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.receive_json()
        for number in range(9):
            if number == 2:
                kept.unlink()
            await socket.send_json(number)

    async def send(message: Any) -> None:
        sent.append(message)

    layer = Authority(streaming, Credentials(OWNER, {}, tmp_path))
    scope, waiting = socket(path, token(VIEWER))

    async def receive() -> Any:
        return waiting.pop(0)

    with pytest.raises(WebSocketDisconnect):  # which ends Prefect's stream, as when a client disconnects
        asyncio.run(layer(scope, receive, send))
    assert [one["text"] for one in sent if one["type"] == "websocket.send"] == ["0", "1"]
    assert sent[-1] == {"type": "websocket.close", "code": 1008, "reason": "The password is no longer valid."}


def test_sockets_that_send_no_password_are_closed(case: Case) -> None:
    """After some time, or earlier the oldest of too many; those that send it in time stay open."""

    async def crowd() -> tuple[list[Any], list[Any]]:
        # Each has its own server, which waits for a message, and its own channel.
        case.layer._unidentified = Unidentified(patience=PATIENCE, most=3)
        gates = [asyncio.Queue[Any]() for _ in range(5)]
        sent: list[list[Any]] = [[] for _ in gates]

        async def requests(number: int) -> None:
            async def send(message: Any) -> None:
                sent[number].append(message)

            scope, _ = socket("/api/events/out")
            await case.layer(scope, gates[number].get, send)

        tasks = []
        for number, gate in enumerate(gates):
            gate.put_nowait({"type": "websocket.connect"})
            tasks.append(asyncio.create_task(requests(number)))
            if number == 0:
                gate.put_nowait({"type": "websocket.receive", **token(VIEWER)})
            while {"type": "websocket.accept"} not in sent[number]:
                await asyncio.sleep(0)
        await tasks[1]  # the fourth waiting one replaces the oldest
        late = [one[-1] for one in sent]
        gates[0].put_nowait({"type": "websocket.receive", "text": "filter"})
        gates[0].put_nowait({"type": "websocket.disconnect", "code": 1000})
        for gate in gates[2:]:
            gate.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.gather(*tasks)
        assert case.layer._unidentified._waiting == {}
        return late, sent[0]

    late, received = asyncio.run(crowd())
    closed = {
        "type": "websocket.close", "code": 1013,
        "reason": "The first message, with the password, did not come in time.",
    }  # fmt: skip
    assert [one == closed for one in late] == [False, True, False, False, False]
    assert [one["type"] for one in received] == ["websocket.accept", *["websocket.send"] * 3]


def test_a_socket_that_never_sends_a_password_is_closed_in_time(case: Case) -> None:
    case.layer._unidentified = Unidentified(patience=0.01)

    async def waits() -> None:
        messages = [{"type": "websocket.connect"}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            case.sent.append(message)

        await asyncio.wait_for(case.layer(socket("/api/logs/out")[0], receive, send), PATIENCE)

    asyncio.run(waits())
    assert (case.sent[-1]["type"], case.sent[-1]["code"]) == ("websocket.close", 1013)
    assert case.prefect.messages == [{"type": "websocket.disconnect", "code": 1013}]


def test_lifespan_messages_are_forwarded(case: Case) -> None:
    case.run({"type": "lifespan"}, [])
    assert case.prefect.scope == {"type": "lifespan"}

"""The layer that holds the roles apart: see `deployments.access.policy` for who may do what.

Prefect knows one password, which gives everything. Here each request is known by its own password, judged, and goes
on with the owner's in place where the role may make it. For others than the owner only what was judged goes on: the
headers that a question needs, and a body that is made again of what was understood.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from deployments.access.credentials import Credentials, Identity
from deployments.access.locked import credential
from deployments.access.policy import ANSWERS, Role, Verdict, judge
from deployments.access.policy_bodies import RefusedError, check_retry, strict_json
from deployments.access.unidentified import Unidentified

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

#: Longest body of a viewer or an operator, bytes; Prefect's own limit for parameters is half of it.
LONGEST: Final = 1024**2
_API: Final = "/api"
#: Headers of a viewer or an operator that go on; others may name an automation as the one who asks, for example.
_PASSED: Final = frozenset(
    {b"host", b"accept", b"accept-encoding", b"accept-language", b"user-agent", b"origin", b"referer",
     b"x-prefect-api-version", b"prefect-csrf-token", b"prefect-csrf-client"}
)  # fmt: skip
#: Why a WebSocket is closed: no password, or not the one of a role that may.
_NO_PASSWORD, _NOT_ALLOWED = 1008, 4403
#: The same of one that gives none in time: its client may come again.
_TOO_LATE: Final = 1013
_READ: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class _BadRequestError(Exception):
    """A request that cannot be understood in one way only; its status and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Authority:
    """An ASGI application that lets each role do what it may.

    Parameters
    ----------
    app
        Prefect's application, which asks for the owner's password.
    credentials
        The passwords of the roles.
    """

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self._app = app
        self._credentials = credentials
        self._unidentified = Unidentified()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say who may ask for this."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = identity_of(scope, self._credentials)
        if who is not None and who.role is Role.OWNER:
            return await self._app(self._as_owner(scope), receive, send)
        if who is None and _of_api(scope) and _gives_password(scope):
            # Whatever it asks for: answered otherwise, it would learn from the answer whether a password is right.
            return await refuse(send, 401, "This is not the password of any role.")
        if who is None or not _of_api(scope):
            # Files of the UI are for everybody. The API asks for a password, and gets none from here.
            return await self._app(_without(scope, b"authorization"), receive, send)
        try:
            body = await _body(scope, receive)
        except _BadRequestError as error:
            return await refuse(send, error.status, str(error))
        if body is _GONE:
            return
        method, path = scope["method"], scope["path"]
        if (method, path) in ANSWERS:
            return await answer(send, 200, ANSWERS[method, path])
        verdict = judge(who.role, who.user, method, path, body)
        if not verdict.allowed:
            return await refuse(send, 403, verdict.reason)
        try:
            await self._look_up(scope, verdict)
        except RefusedError as error:
            reason = f"{error} This is for the owner; you are logged in as {who.role.label}."
            return await refuse(send, 403, reason)
        text = b"" if verdict.body is None else json.dumps(verdict.body, allow_nan=False).encode()
        headers = [(name, value) for name, value in scope["headers"] if name.lower() in _PASSED]
        headers += [(b"authorization", self._credentials.owner_header)]
        if method not in _READ:
            headers += [(b"content-length", str(len(text)).encode())]
            headers += [(b"content-type", b"application/json")] if text else []
        await self._app({**scope, "headers": headers}, _giving(text, receive), send)

    async def _look_up(self, scope: Scope, verdict: Verdict) -> None:
        """Refuse what depends on what Prefect has, where that is not so."""
        if verdict.same and not await self._has(scope, verdict.same):
            raise RefusedError(f"An operator cannot change {' and '.join(verdict.same)}.")
        if verdict.retry:
            run = await self._read(scope, scope["path"].removesuffix("/set_state"))
            flow = await self._read(scope, f"{_API}/flows/{run['flow_id']}") if run is not None else None
            check_retry(run, flow)

    async def _has(self, scope: Scope, stated: Mapping[str, Any]) -> bool:
        """Whether the deployment of a request's path, or its schedule, has these values."""
        _, _, what, deployment, *rest = scope["path"].split("/")
        there = await self._read(scope, f"{_API}/{what}/{deployment}")
        if rest[:1] == ["schedules"] and there is not None:
            there = next((one for one in there["schedules"] if one["id"] == rest[1].lower()), None)
        return there is not None and all(_agrees(value, there.get(name)) for name, value in stated.items())

    async def _read(self, scope: Scope, path: str) -> Any:
        """What Prefect answers to the owner's question; None where that is an error."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        headers = [pair for pair in scope["headers"] if pair[0].lower() == b"host"]
        headers += [(b"authorization", self._credentials.owner_header)]
        question = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        await self._app({**scope, **question, "headers": headers}, receive, send)
        answered = bool(sent) and sent[0].get("status") == 200
        return json.loads(b"".join(one.get("body", b"") for one in sent)) if answered else None

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the owner's password into the first message, which Prefect asks for, where the role may listen.

        What comes after goes out only as long as the password of who listens holds.
        """
        waiting, ended = True, False
        who: Identity | None = None

        async def receiving() -> Message:
            nonlocal waiting, ended, who
            if not waiting:
                return await receive()
            message = await self._unidentified.first(receive)
            if message is None:
                ended = True
                why = "The first message, with the password, did not come in time."
                await send({"type": "websocket.close", "code": _TOO_LATE, "reason": why})
                return {"type": "websocket.disconnect", "code": _TOO_LATE}
            if message["type"] != "websocket.receive":
                return message
            waiting = False
            code, why, text, who = self._first(scope, message)
            if why:
                ended = True
                await send({"type": "websocket.close", "code": code, "reason": why})
                return {"type": "websocket.disconnect", "code": code}
            return {"type": "websocket.receive", "text": text}

        async def sending(message: Message) -> None:
            nonlocal ended
            if not ended and who is not None and not self._credentials.holds(who):
                ended = True
                why = "The password holds no more."
                await send({"type": "websocket.close", "code": _NO_PASSWORD, "reason": why})
                raise OSError(why)  # as from a connection that was lost: Prefect stops sending
            if not ended:
                await send(message)

        await self._app(_without(scope, b"authorization"), receiving, sending)

    def _first(self, scope: Scope, message: Message) -> tuple[int, str, str, Identity | None]:
        """Code and reason by which a socket's first message is refused, or what goes on in its place, and whose."""
        try:
            asked = strict_json(message.get("text") or "")
        except RefusedError:
            asked = None
        token = asked.get("token") if isinstance(asked, dict) and asked.get("type") == "auth" else None
        who = self._credentials.identify(token) if isinstance(token, str) else None
        if who is None:
            return _NO_PASSWORD, "The first message has to give the password.", "", None
        verdict = judge(who.role, who.user, "WS", scope["path"])
        if not verdict.allowed:
            return _NOT_ALLOWED, verdict.reason, "", None
        return 0, "", json.dumps({"type": "auth", "token": self._credentials.owner}), who

    def _as_owner(self, scope: Scope) -> Scope:
        headers = _without(scope, b"authorization")["headers"]
        return {**scope, "headers": [*headers, (b"authorization", self._credentials.owner_header)]}


def _agrees(stated: Any, there: Any) -> bool:
    if isinstance(stated, dict) and isinstance(there, dict):
        return all(value is None or there.get(name) == value for name, value in stated.items())
    return bool(stated == there)


def identity_of(scope: Scope, credentials: Credentials) -> Identity | None:
    """Who asks, by the header of HTTP's Basic authentication; None for nobody that is known."""
    given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if len(given) != 1:
        return None
    auth = credential(given[0])
    try:
        return credentials.identify(auth.decode()) if auth is not None else None
    except UnicodeDecodeError:
        return None


def _gives_password(scope: Scope) -> bool:
    return any(name.lower() == b"authorization" for name, _ in scope["headers"])


async def refuse(send: Send, status: int, why: str) -> None:
    """Answer with a message, as Prefect's UI shows it."""
    await answer(send, status, {"detail": why})


async def answer(send: Send, status: int, content: Any) -> None:
    """Answer with JSON."""
    text = json.dumps(content).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(text)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


_GONE: Final = object()


async def _body(scope: Scope, receive: Receive) -> Any:
    """The body of a request as JSON; None for none, and `_GONE` where who asked has gone."""
    encodings = [value for name, value in scope["headers"] if name.lower() == b"content-encoding"]
    if any(value.strip().lower() != b"identity" for value in encodings):
        raise _BadRequestError(415, "The body is compressed; send it as it is.")
    whole = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return _GONE
        whole += message.get("body", b"")
        more = message.get("more_body", False)
        if len(whole) > LONGEST:
            raise _BadRequestError(413, f"The body is longer than {LONGEST} bytes.")
    if not whole or scope["method"] in _READ:
        return None
    try:
        return strict_json(whole.decode())
    except UnicodeDecodeError:
        raise _BadRequestError(400, "The body is not JSON in UTF-8.") from None
    except RefusedError as error:
        raise _BadRequestError(400, str(error)) from None


def _giving(text: bytes, receive: Receive) -> Receive:
    """A channel that gives a body, and after that what comes."""
    given = False

    async def giving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": text, "more_body": False}

    return giving


def _of_api(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == _API or path.startswith(f"{_API}/")


def _without(scope: Scope, name: bytes) -> Scope:
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() != name]}

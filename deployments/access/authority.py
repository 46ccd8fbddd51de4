"""The layer that enforces the roles; `deployments.access.policy` defines what each role may do.

Prefect knows one password, which allows everything. Here each request is identified by its own password and judged; if
its role allows it, it is forwarded with the owner's password instead. For roles other than the owner, only what was
judged is forwarded: the headers that a request needs, and a body rebuilt from the fields that were understood.
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
#: Headers of a viewer or an operator that are forwarded. Others could, for example, claim to be an automation.
_PASSED: Final = frozenset(
    {b"host", b"accept", b"accept-encoding", b"accept-language", b"user-agent", b"origin", b"referer",
     b"x-prefect-api-version", b"prefect-csrf-token", b"prefect-csrf-client"}
)  # fmt: skip
#: Codes for closing a WebSocket: no valid password, or a role that may not use it.
_NO_PASSWORD, _NOT_ALLOWED = 1008, 4403
#: Code for closing a WebSocket that sent no password in time: its client may try again.
_TOO_LATE: Final = 1013
_READ: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class _BadRequestError(Exception):
    """An ambiguous or malformed request, with the status and the reason of the refusal."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Authority:
    """An ASGI application that lets each role do only what it may.

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
        """Answer the request, or refuse it and name the roles that may make it."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        identity = identity_of(scope, self._credentials)
        if identity is not None and identity.role is Role.OWNER:
            return await self._app(self._as_owner(scope), receive, send)
        if identity is None and _of_api(scope) and _has_credential(scope):
            # For any path: otherwise the difference between answers would reveal whether a password is right.
            return await refuse(send, 401, "The password is not that of any role.")
        if identity is None or not _of_api(scope):
            # Files of the UI are public. The API requires a password, and none is added here.
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
        verdict = judge(identity.role, identity.user, method, path, body)
        if not verdict.allowed:
            return await refuse(send, 403, verdict.reason)
        try:
            await self._look_up(scope, verdict)
        except RefusedError as error:
            reason = f"{error} This is for the owner; you are logged in as {identity.role.label}."
            return await refuse(send, 403, reason)
        text = b"" if verdict.body is None else json.dumps(verdict.body, allow_nan=False).encode()
        headers = [(name, value) for name, value in scope["headers"] if name.lower() in _PASSED]
        headers += [(b"authorization", self._credentials.owner_header)]
        if method not in _READ:
            headers += [(b"content-length", str(len(text)).encode())]
            headers += [(b"content-type", b"application/json")] if text else []
        await self._app({**scope, "headers": headers}, _receiving_first(text, receive), send)

    async def _look_up(self, scope: Scope, verdict: Verdict) -> None:
        """Refuse a request whose conditions on Prefect's current data are not met."""
        if verdict.same and not await self._has(scope, verdict.same):
            raise RefusedError(f"An operator cannot change {' and '.join(verdict.same)}.")
        if verdict.retry:
            run = await self._read(scope, scope["path"].removesuffix("/set_state"))
            flow = await self._read(scope, f"{_API}/flows/{run['flow_id']}") if run is not None else None
            check_retry(run, flow)

    async def _has(self, scope: Scope, stated: Mapping[str, Any]) -> bool:
        """Return whether the deployment of a request's path, or its schedule, has these values."""
        _, _, what, deployment, *rest = scope["path"].split("/")
        current = await self._read(scope, f"{_API}/{what}/{deployment}")
        if rest[:1] == ["schedules"] and current is not None:
            current = next((one for one in current["schedules"] if one["id"] == rest[1].lower()), None)
        return current is not None and all(
            _agrees(value, current.get(name)) for name, value in stated.items()
        )

    async def _read(self, scope: Scope, path: str) -> Any:
        """Return Prefect's answer to a read by the owner; None if it is an error."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        headers = [pair for pair in scope["headers"] if pair[0].lower() == b"host"]
        headers += [(b"authorization", self._credentials.owner_header)]
        read = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        await self._app({**scope, **read, "headers": headers}, receive, send)
        answered = bool(sent) and sent[0].get("status") == 200
        return json.loads(b"".join(one.get("body", b"") for one in sent)) if answered else None

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the owner's password into the first message, which Prefect requires, if the role may listen.

        Later messages are sent only while the client's own password is valid.
        """
        waiting, ended = True, False
        identity: Identity | None = None

        async def receiving() -> Message:
            nonlocal waiting, ended, identity
            if not waiting:
                return await receive()
            message = await self._unidentified.first(receive)
            if message is None:
                ended = True
                reason = "The first message, with the password, did not come in time."
                await send({"type": "websocket.close", "code": _TOO_LATE, "reason": reason})
                return {"type": "websocket.disconnect", "code": _TOO_LATE}
            if message["type"] != "websocket.receive":
                return message
            waiting = False
            code, reason, text, identity = self._first(scope, message)
            if reason:
                ended = True
                await send({"type": "websocket.close", "code": code, "reason": reason})
                return {"type": "websocket.disconnect", "code": code}
            return {"type": "websocket.receive", "text": text}

        async def sending(message: Message) -> None:
            nonlocal ended
            if not ended and identity is not None and not self._credentials.holds(identity):
                ended = True
                reason = "The password is no longer valid."
                await send({"type": "websocket.close", "code": _NO_PASSWORD, "reason": reason})
                raise OSError(reason)  # as from a connection that was lost: Prefect stops sending
            if not ended:
                await send(message)

        await self._app(_without(scope, b"authorization"), receiving, sending)

    def _first(self, scope: Scope, message: Message) -> tuple[int, str, str, Identity | None]:
        """Return code and reason of a refused first message, or the text that replaces it and its sender."""
        try:
            asked = strict_json(message.get("text") or "")
        except RefusedError:
            asked = None
        token = asked.get("token") if isinstance(asked, dict) and asked.get("type") == "auth" else None
        identity = self._credentials.identify(token) if isinstance(token, str) else None
        if identity is None:
            return _NO_PASSWORD, "The first message must contain the password.", "", None
        verdict = judge(identity.role, identity.user, "WS", scope["path"])
        if not verdict.allowed:
            return _NOT_ALLOWED, verdict.reason, "", None
        return 0, "", json.dumps({"type": "auth", "token": self._credentials.owner}), identity

    def _as_owner(self, scope: Scope) -> Scope:
        headers = _without(scope, b"authorization")["headers"]
        return {**scope, "headers": [*headers, (b"authorization", self._credentials.owner_header)]}


def _agrees(stated: Any, current: Any) -> bool:
    if isinstance(stated, dict) and isinstance(current, dict):
        return all(value is None or current.get(name) == value for name, value in stated.items())
    return bool(stated == current)


def identity_of(scope: Scope, credentials: Credentials) -> Identity | None:
    """Return the sender of a request by its header of HTTP Basic authentication; None if unknown."""
    given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if len(given) != 1:
        return None
    auth = credential(given[0])
    try:
        return credentials.identify(auth.decode()) if auth is not None else None
    except UnicodeDecodeError:
        return None


def _has_credential(scope: Scope) -> bool:
    return any(name.lower() == b"authorization" for name, _ in scope["headers"])


async def refuse(send: Send, status: int, reason: str) -> None:
    """Answer with a message in the form that Prefect's UI displays."""
    await answer(send, status, {"detail": reason})


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
    """Return the JSON body of a request; None if it is empty, `_GONE` if the client has disconnected."""
    encodings = [value for name, value in scope["headers"] if name.lower() == b"content-encoding"]
    if any(value.strip().lower() != b"identity" for value in encodings):
        raise _BadRequestError(415, "The body is compressed; send it uncompressed.")
    content = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return _GONE
        content += message.get("body", b"")
        more = message.get("more_body", False)
        if len(content) > LONGEST:
            raise _BadRequestError(413, f"The body is longer than {LONGEST} bytes.")
    if not content or scope["method"] in _READ:
        return None
    try:
        return strict_json(content.decode())
    except UnicodeDecodeError:
        raise _BadRequestError(400, "The body is not JSON in UTF-8.") from None
    except RefusedError as error:
        raise _BadRequestError(400, str(error)) from None


def _receiving_first(text: bytes, receive: Receive) -> Receive:
    """Return a channel that yields a body first, and then whatever arrives."""
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": text, "more_body": False}

    return receiving


def _of_api(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == _API or path.startswith(f"{_API}/")


def _without(scope: Scope, name: bytes) -> Scope:
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() != name]}

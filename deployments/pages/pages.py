"""The pages that nirflow serves next to Prefect's UI: nights at ``/nights/``, the calibration store at ``/store/``,
what runs and waits at ``/status/``.

They are for every role and read-only. None has a script but those of nights, which run one that the server itself
serves: it asks for the frames that were judged as they arrived (`deployments.pages.arriving_page`). A browser needs a
session (`deployments.access.sessions`), which the login page creates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

from deployments.access.authority import identity_of
from deployments.access.credentials import Credentials
from deployments.access.sessions import Sessions, cookie
from deployments.pages.arriving_page import POLICY, SCRIPT, ArrivingPage, is_page, with_script
from deployments.pages.night_files import content, open_below
from deployments.pages.status_page import StatusPage
from deployments.pages.store_pages import StorePages

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

NIGHTS: Final = "/nights"
STORE: Final = "/store"
STATUS: Final = "/status"
_OURS: Final = (NIGHTS, STORE, STATUS)
#: Path below that of the nights that leads to the latest one with judged frames.
LATEST: Final = "latest"
#: Path at which the login page begins and ends a session.
SESSION: Final = "/nirflow/session"
LOGIN: Final = "/nirflow/login"
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "private, no-cache",
}


class Pages:
    """An ASGI application with these pages in front of it.

    Parameters
    ----------
    app
        The application.
    credentials
        The passwords of the roles.
    nights
        Folder of the nights' pages.
    store
        The pages of the store.
    status
        The page of the status.
    """

    def __init__(
        self, app: ASGIApp, credentials: Credentials, nights: Path, store: StorePages, status: StatusPage
    ) -> None:
        self._app = app
        self._credentials = credentials
        self._sessions = Sessions(credentials)
        self._nights = nights
        self._arriving = ArrivingPage(nights)
        self._store = store
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a page, and forward all other requests to the application."""
        ours = scope["type"] == "http" and (
            scope["path"] == SESSION or any(_below(scope["path"], one) for one in _OURS)
        )
        if not ours:
            return await self._app(scope, receive, send)
        response = self._session(scope) if scope["path"] == SESSION else await self._page(scope)
        response.headers.update(_HEADERS)
        if _below(scope["path"], NIGHTS) and response.headers.get("content-type", "").startswith("text/html"):
            response.headers["content-security-policy"] += POLICY
        await response(scope, receive, send)

    def _session(self, scope: Scope) -> Response:
        """Begin or end a session, authenticated by a header, which no form or link can send."""
        secure = _is_secure(scope)
        if scope["method"] == "DELETE":
            self._sessions.end(scope)
            return Response(status_code=204, headers={"set-cookie": cookie("", secure=secure)})
        if scope["method"] != "POST":
            return PlainTextResponse(
                "POST begins a session, DELETE ends it.\n", 405, {"allow": "POST, DELETE"}
            )
        identity = identity_of(scope, self._credentials)
        if identity is None:
            return PlainTextResponse("The password is not that of any role.\n", 401)
        token = self._sessions.begin(identity)
        return Response(status_code=204, headers={"set-cookie": cookie(token, secure=secure)})

    async def _page(self, scope: Scope) -> Response:
        path: str = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("These pages are read-only.\n", 405, {"allow": "GET, HEAD"})
        request = Request(scope)
        if self._sessions.of(scope) is None:
            if "text/html" not in request.headers.get("accept", ""):
                return PlainTextResponse(f"Log in at {LOGIN} first.\n", 401)
            here = path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{LOGIN}?next={quote(here, safe='')}", 303)
        if path in _OURS:
            return RedirectResponse(f"{path}/", 307)
        if path == f"{STATUS}/":
            return HTMLResponse(await run_in_threadpool(self._status.page))
        if _below(path, STATUS):
            return PlainTextResponse("There is no such page.\n", 404)
        if _below(path, STORE):
            status, page = await run_in_threadpool(
                self._store.page, path.removeprefix(f"{STORE}/"), dict(request.query_params)
            )
            return HTMLResponse(page, status)
        return await run_in_threadpool(self._night, path.removeprefix(f"{NIGHTS}/"), scope["method"])

    def _night(self, path: str, method: str) -> Response:
        if path == SCRIPT:
            return Response(self._arriving.script, headers={"content-type": "text/javascript; charset=utf-8"})
        if path == LATEST and (night := self._arriving.latest()) is not None:
            return RedirectResponse(f"{NIGHTS}/{night}/#arriving", 307)
        opened = open_below(self._nights, path)
        if opened is None and (begun := self._arriving.page(path)) is not None:
            return HTMLResponse(begun)
        if opened is None:
            return PlainTextResponse(
                "There is no such page. The page of a night is written by its first run.\n", 404
            )
        if is_page(path):
            return HTMLResponse(with_script(b"".join(content(opened))))
        headers = {"content-length": str(opened.size), "content-type": opened.kind}
        if opened.kind == "application/fits":
            headers["content-disposition"] = "attachment"
        if method == "HEAD":
            opened.file.close()
            return Response(headers=headers)
        return StreamingResponse(content(opened), headers=headers)


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _is_secure(scope: Scope) -> bool:
    """Return whether the browser uses TLS, which may end at a proxy in front."""
    origins = [value for name, value in scope["headers"] if name.lower() == b"origin"]
    return scope.get("scheme") == "https" or any(
        urlsplit(o.decode("latin-1")).scheme == "https" for o in origins
    )

"""The server's pages open at one loopback address only, so that a browser keeps its login for that address.

``localhost`` stands for 127.0.0.1 and for ::1. Browsers try the latter first, and send what they stored for the name to
whichever server answers; ours listens on one of the two. So a request for a page under another loopback name is
redirected to the address at which browsers should reach the server, and no password is ever stored for that name.

If ``server.public_url`` has another name, ``localhost`` included, nothing is redirected: a proxy may use any name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from deployments.access.guarded import host_of, is_loopback, of_api

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send


class OneAddress:
    """An ASGI application whose pages open at one loopback address.

    Parameters
    ----------
    app
        The application.
    public_url
        URL at which browsers reach it.
    names
        Its further names, under which its pages open too.
    """

    def __init__(self, app: ASGIApp, public_url: str | None = None, names: Iterable[str] = ()) -> None:
        self._app = app
        self._address = urlsplit(public_url or "").hostname or ""
        self._open = frozenset({self._address, *map(host_of, names)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or redirect to the same page at the address."""
        if (place := self._place(scope)) is None:
            return await self._app(scope, receive, send)
        headers = [(b"location", place.encode()), (b"content-length", b"0"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 307, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _place(self, scope: Scope) -> str | None:
        """Return the URL to redirect a request to; None if it is answered here."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or of_api(scope["path"]):
            return None
        given = next(
            (value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"host"), ""
        )
        name = host_of(given)
        if not is_loopback(self._address) or name in self._open:
            return None
        if name != "localhost" and not is_loopback(name):
            return None
        address = f"[{self._address}]" if ":" in self._address else self._address
        # A tunnel or a container may publish another port than the server's own.
        _, _, port = given.rpartition(":")
        port = f":{port}" if port.isdecimal() and given != name else ""
        path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
        asked = f"?{asked.decode('latin-1')}" if (asked := scope.get("query_string")) else ""
        return f"{scope.get('scheme', 'http')}://{address}{port}{path}{asked}"

"""Pages of the Prefect server that reach nobody but the server: what a browser is told with each answer.

Prefect's newer UI asks a host of Amplitude for settings, the page of the API takes its scripts from a CDN, and the
catalogue of blocks its logos from GitHub. None of that is needed, and no observatory's browser should tell anybody
what it looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The UI compiles templates and draws its graphs in workers; both of its parts write styles into the page.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:{more}; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)


class Confined:
    """An ASGI application whose pages may ask nobody but itself.

    Parameters
    ----------
    app
        The application.
    api_url
        Where the UI finds the API: a browser may have the page by another name of the same machine.
    """

    def __init__(self, app: ASGIApp, api_url: str | None = None) -> None:
        self._app = app
        there = urlsplit(api_url or "")
        sockets = "wss" if there.scheme == "https" else "ws"
        more = f" {there.scheme}://{there.netloc} {sockets}://{there.netloc}" if there.netloc else ""
        self._headers = [
            (b"content-security-policy", _POLICY.format(more=more).encode("latin-1")),
            (b"referrer-policy", b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and tell the browser what the page may do."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        return await self._app(scope, receive, told)

"""A content security policy, sent with each answer, under which pages contact only the server that they come from.

Prefect's newer UI requests settings from a host of Amplitude, the page of the API loads its scripts from a CDN, and the
catalogue of blocks its logos from GitHub. None of that is needed, and an observatory's browser should not disclose to
third parties which pages it opens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The UI compiles templates and draws its graphs in workers; both of its parts write styles into the page.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)


class Confined:
    """An ASGI application whose pages may contact only itself.

    Parameters
    ----------
    app
        The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [
            (b"content-security-policy", _POLICY.encode("latin-1")),
            (b"referrer-policy", b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the policy for the browser in the headers."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        return await self._app(scope, receive, send_with_policy)

"""The pages that the Prefect server shows without the password: a short list, and nothing else.

Under ``/api`` Prefect itself requires the password, except for ``/api/health`` and ``/api/ready``. Outside the API it
has public pages, of which the description of the API is locked here. The following stay open: the files of the UIs,
which are the same everywhere; ``/ui-settings``, which they read before a login; and the login page.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING, Final

from starlette.routing import Mount, Route

from deployments.access.guarded import Refusal, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Prefect's own pages outside the API that need no password.
OPEN: Final = frozenset({"/ui-settings"})
_REFUSAL: Final = Refusal(
    401, "This page needs the password, as Basic authorization; nirflow server login shows it."
)


class Locked:
    """An ASGI application with some pages that need a password.

    Parameters
    ----------
    app
        The application.
    auth
        USER:PASSWORD.
    paths
        The pages that need it.
    """

    def __init__(self, app: ASGIApp, auth: str, paths: Iterable[str]) -> None:
        self._app = app
        self._auth = auth.encode()
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, unless the page needs the password and the request lacks it."""
        if scope["type"] == "http" and scope["path"] in self._paths and not self._is_allowed(scope):
            return await refuse(scope, send, _REFUSAL)
        return await self._app(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(credential(given[0]) or b"", self._auth)


def credential(header: bytes) -> bytes | None:
    """Return USER:PASSWORD from the value of a Basic Authorization header; None if it has none."""
    scheme, _, encoded = header.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return None


def pages(routes: Iterable[BaseRoute]) -> set[str]:
    """Return the paths of an application's pages, except files, mounted APIs and the open pages."""
    found: set[str] = set()
    for route in routes:
        if isinstance(route, Route):
            found.add(route.path)
        elif isinstance(route, Mount) and not route.path:
            found |= pages(route.routes)
    return found - OPEN

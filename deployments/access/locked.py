"""What the Prefect server shows without the password: a short list, and nothing else.

Under ``/api`` Prefect asks for the password itself, but for ``/api/health`` and ``/api/ready``. Beside the API it has
pages that it shows to everybody: the description of the API is locked here. Open stay the files of the UIs, which
are the same everywhere; ``/ui-settings``, which they read before anybody can log in; and the login page.
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

#: Of Prefect's own pages beside the API, those that need no password.
OPEN: Final = frozenset({"/ui-settings"})
_ASKED: Final = Refusal(
    401, "This page needs the password, as Basic authorization; nirflow server login shows it."
)


class Locked:
    """An ASGI application some of whose pages need a password.

    Parameters
    ----------
    app
        The application.
    auth
        USER:PASSWORD.
    paths
        The pages.
    """

    def __init__(self, app: ASGIApp, auth: str, paths: Iterable[str]) -> None:
        self._app = app
        self._auth = auth.encode()
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer those who have the password."""
        if scope["type"] == "http" and scope["path"] in self._paths and not self._may(scope):
            return await refuse(scope, send, _ASKED)
        return await self._app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(credential(given[0]) or b"", self._auth)


def credential(header: bytes) -> bytes | None:
    """USER:PASSWORD in the value of an Authorization header; None where it is none."""
    scheme, _, word = header.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(word.strip(), validate=True)
    except binascii.Error:
        return None


def pages(routes: Iterable[BaseRoute]) -> set[str]:
    """Paths of all pages of an application that are neither files nor parts of a mounted API, less the open ones."""
    found: set[str] = set()
    for route in routes:
        if isinstance(route, Route):
            found.add(route.path)
        elif isinstance(route, Mount) and not route.path:
            found |= pages(route.routes)
    return found - OPEN

"""Browser sessions for the pages of nights and of the store, which are opened by links and so send no header.

A session is a random token in a cookie that only these pages accept, never Prefect's API. So a request that a foreign
page makes through the browser can change nothing. A session lasts for some hours, at most as long as this process and
the password with which it was created.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from deployments.access.credentials import Credentials, Identity

if TYPE_CHECKING:
    from starlette.types import Scope

COOKIE: Final = "nirflow-session"
#: Duration of a session, s.
LASTS: Final = 12 * 3600
_MOST: Final = 1000


class Sessions:
    """The sessions of one server.

    Parameters
    ----------
    credentials
        The passwords of the roles.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._known: OrderedDict[str, tuple[float, Identity]] = OrderedDict()

    def begin(self, identity: Identity) -> str:
        """Create a session and return its token; the oldest is dropped if there are too many."""
        token = secrets.token_urlsafe(32)
        self._known[token] = time.monotonic() + LASTS, identity
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return token

    def end(self, scope: Scope) -> None:
        """End the session of a request."""
        for token in _tokens(scope):
            self._known.pop(token, None)

    def of(self, scope: Scope) -> Identity | None:
        """Return the client of a request by its cookie; None if it is not logged in."""
        for token in _tokens(scope):
            until, identity = self._known.get(token, (0.0, None))
            if identity is not None and time.monotonic() <= until and self._credentials.holds(identity):
                return identity
            self._known.pop(token, None)
        return None


def cookie(token: str, *, secure: bool) -> str:
    """Return the header that sets a browser's token, or deletes the cookie if the token is empty."""
    lasts = LASTS if token else 0
    return (
        f"{COOKIE}={token}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
    )


def _tokens(scope: Scope) -> list[str]:
    """Return all values of our cookie: other servers on this host may set cookies of the same name."""
    return [
        value.strip()
        for header, line in scope["headers"]
        if header.lower() == b"cookie"
        for name, _, value in (one.partition("=") for one in line.decode("latin-1").split(";"))
        if name.strip() == COOKIE
    ]

"""Logins of browsers to the pages of nights and of the store, which open by a link and send no header of their own.

A session is a random word in a cookie that only these pages take; Prefect's API never does. So a request that a
foreign page makes a browser send can change nothing. It holds for some hours, in this process, and for as long as the
password by which it was made.
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
#: How long a login holds, s.
LASTS: Final = 12 * 3600
_MOST: Final = 1000


class Sessions:
    """The logins of one server.

    Parameters
    ----------
    credentials
        The passwords of the roles.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._known: OrderedDict[str, tuple[float, Identity]] = OrderedDict()

    def begin(self, identity: Identity) -> str:
        """A word for a login; the oldest is forgotten where there are too many."""
        word = secrets.token_urlsafe(32)
        self._known[word] = time.monotonic() + LASTS, identity
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return word

    def end(self, scope: Scope) -> None:
        """Forget the login of a request."""
        for word in _words(scope):
            self._known.pop(word, None)

    def of(self, scope: Scope) -> Identity | None:
        """Who asks, by the request's cookie; None for nobody that is logged in."""
        for word in _words(scope):
            until, identity = self._known.get(word, (0.0, None))
            if identity is not None and time.monotonic() <= until and self._credentials.holds(identity):
                return identity
            self._known.pop(word, None)
        return None


def cookie(word: str, *, secure: bool) -> str:
    """The header that gives a browser its word, or takes it away where that is empty."""
    lasts = LASTS if word else 0
    return (
        f"{COOKIE}={word}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
    )


def _words(scope: Scope) -> list[str]:
    """The values of our cookie, whatever else a browser sends: any server of this host may give it cookies."""
    return [
        value.strip()
        for header, line in scope["headers"]
        if header.lower() == b"cookie"
        for name, _, value in (one.partition("=") for one in line.decode("latin-1").split(";"))
        if name.strip() == COOKIE
    ]

"""Logins of browsers to the pages of nights and of the store, which open by a link and send no header of their own.

A session is a random word in a cookie that only these pages take; Prefect's API never does. So a request that a
foreign page makes a browser send can change nothing. It holds for some hours, in this process, and for as long as the
password by which it was made.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

from deployments.credentials import Credentials, Identity

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
        self._known.pop(_word(scope), None)

    def of(self, scope: Scope) -> Identity | None:
        """Who asks, by the request's cookie; None for nobody that is logged in."""
        until, identity = self._known.get(_word(scope), (0.0, None))
        if identity is None or time.monotonic() > until or not self._credentials.holds(identity):
            self._known.pop(_word(scope), None)
            return None
        return identity


def cookie(word: str, *, secure: bool) -> str:
    """The header that gives a browser its word, or takes it away where that is empty."""
    lasts = LASTS if word else 0
    return (
        f"{COOKIE}={word}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
    )


def _word(scope: Scope) -> str:
    given = SimpleCookie()
    for name, value in scope["headers"]:
        if name.lower() == b"cookie":
            try:
                given.load(value.decode("latin-1"))
            except CookieError:
                return ""
    return given[COOKIE].value if COOKIE in given else ""

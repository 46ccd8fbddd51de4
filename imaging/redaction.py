"""Passwords in texts, hidden before a text leaves nirflow, whatever its origin."""

from __future__ import annotations

import re
from typing import Final

#: Replacement for a secret.
HIDDEN: Final = "***"
#: A URL ends at a space, a double quote or an angle bracket; a password in it may contain anything else, even
#: an @.
_USERINFO: Final = re.compile(r'\b([A-Za-z][A-Za-z0-9+.-]*)://([^\s"<>]*)@')
#: Parameters such as ``X-Amz-Signature``, ``sslpassword``, ``api_key`` and ``access_token``.
_PARAMETER: Final = re.compile(
    r'([?&;][^=?&;#\s"<>]*(?:passw|passphrase|pwd|token|secret|key|sig|auth|cred)[^=?&;#\s"<>]*=)[^&;#\s"<>]+',
    re.I,
)
#: Alternative form of an address in libpq: ``host=db password='it''s'``.
_CONNECTION_STRING: Final = re.compile(r"\b((?:ssl)?password=)(?:'(?:[^'\\]|\\.)*'|[^\s'\"&]+)", re.I)
_HEADER: Final = re.compile(
    r"(\bauthorization\b['\"]?\s*[:=]\s*['\"]?(?:(?:basic|bearer)\s+)?)[^\s'\",}]+", re.I
)


def without_secrets(text: str) -> str:
    """Return a text with the passwords of URLs, secret query parameters and authorization headers hidden.

    A user name before a password is kept; one without a password is kept too, except in a web address, where
    it is often a token. The function may be applied repeatedly.

    Parameters
    ----------
    text
        A message, a setting, a traceback.

    Returns
    -------
    str
        ``***`` stands for each secret.

    Examples
    --------
    >>> without_secrets("postgresql://ana:hush@db/nirflow does not answer")
    'postgresql://ana:***@db/nirflow does not answer'
    """
    if "://" in text:
        text = _PARAMETER.sub(rf"\1{HIDDEN}", _USERINFO.sub(_without_password, text))
    return _HEADER.sub(rf"\1{HIDDEN}", _CONNECTION_STRING.sub(rf"\1{HIDDEN}", text))


def _without_password(found: re.Match[str]) -> str:
    scheme, userinfo = found.groups()
    user, colon, _ = userinfo.partition(":")
    if colon:
        return f"{scheme}://{user}:{HIDDEN}@"
    return f"{scheme}://{HIDDEN if scheme.lower().startswith('http') else userinfo}@"

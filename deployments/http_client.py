"""HTTP requests to the Prefect server and to webhooks, by httpx and by one set of rules.

Every request has a time limit, follows no redirection (who answers could name any host, such as this machine's own) and
opens a connection of its own, so nothing has to be closed and threads share nothing. A server on this machine is
never asked through a proxy. What httpx logs of a request has its URL, which may hold a secret: it is not logged.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final
from urllib.parse import urlsplit

import httpx

_NO_KEEPALIVE: Final = httpx.Limits(max_keepalive_connections=0)

for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class NoAnswerError(Exception):
    """Nobody answered, or nothing that is HTTP; or the address is none.

    Attributes
    ----------
    kind
        What happened as one word, without the address: ``ConnectError``.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.kind = type(error).__name__


@dataclass(frozen=True)
class Answer:
    """What a server answered, well or not.

    Attributes
    ----------
    status, reason
        Code and phrase.
    body
        The body, where it was read.
    redirects
        Whether it names another address.
    """

    status: int
    reason: str
    body: bytes
    redirects: bool = False

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300


def ask(
    method: str,
    url: str,
    *,
    timeout: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    direct: bool = False,
    read: bool = True,
) -> Answer:
    """Send a request and return the answer.

    Parameters
    ----------
    method, url
        GET or POST, and an address of http or https.
    timeout
        How long to wait for a connection, and for each part of the answer, s.
    body, headers
        What is sent.
    direct
        Whether no proxy is asked for any address; none ever is for one of this machine.
    read
        Whether the body of the answer is read; it may have no end.

    Raises
    ------
    NoAnswerError
        Where there is no answer.
    """
    try:
        with (
            httpx.Client(
                verify=_context(url.startswith("https:")),
                trust_env=not (direct or _is_this_machine(url)),
                follow_redirects=False,
                timeout=timeout,
                limits=_NO_KEEPALIVE,
            ) as client,
            client.stream(
                method, url, content=body, headers={"User-Agent": "nirflow", **(headers or {})}
            ) as answer,
        ):
            content = answer.read() if read else b""
            return Answer(answer.status_code, answer.reason_phrase, content, "location" in answer.headers)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError) as error:
        # ImportError: of a proxy that needs a package which is not installed.
        raise NoAnswerError(error) from error


@cache
def _context(secure: bool) -> ssl.SSLContext:
    """Return the certificates that are trusted: those of this machine; for plain HTTP, which has none, not read."""
    return ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _is_this_machine(url: str) -> bool:
    name = urlsplit(url).hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

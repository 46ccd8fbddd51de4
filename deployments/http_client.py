"""HTTP requests to the Prefect server and to webhooks, with httpx and common rules.

Every request has a time limit, follows no redirection (the server could name any host, such as this machine) and opens
its own connection, so nothing needs closing and threads share nothing. Requests to this machine never use a proxy. The
log of httpx is off, as it would contain URLs, which may contain secrets.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import httpx

from tasks.prefect_internals.loopback_clients import is_this_machine

_NO_KEEPALIVE: Final = httpx.Limits(max_keepalive_connections=0)

for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class NoAnswerError(Exception):
    """A request without an HTTP response, or with an invalid address.

    Attributes
    ----------
    kind
        Name of the error, without the address: ``ConnectError``.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.kind = type(error).__name__


@dataclass(frozen=True)
class Answer:
    """A server's response, successful or not.

    Attributes
    ----------
    status, reason
        Code and phrase.
    body
        The body, if it was read.
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
    """Send a request and return the response.

    Parameters
    ----------
    method, url
        GET or POST, and an http or https URL.
    timeout
        How long to wait for a connection, and for each part of the response, s.
    body, headers
        Body and headers to send.
    direct
        Use no proxy for any address; requests to this machine never use one.
    read
        Whether to read the body of the response, which may be endless.

    Raises
    ------
    NoAnswerError
        If there is no response.
    """
    try:
        with (
            httpx.Client(
                verify=_context(url.startswith("https:")),
                trust_env=not (direct or is_this_machine(url)),
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
        # ImportError: for a proxy that needs a package that is not installed.
        raise NoAnswerError(error) from error


@cache
def _context(secure: bool) -> ssl.SSLContext:
    """Return the trusted certificates, those of this machine; plain HTTP needs none, so none are read."""
    return ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

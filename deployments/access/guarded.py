"""Protection from foreign web pages: the Prefect server answers only requests to its own names, from its own pages.

A browser sends a page's requests to any address that it can reach, this machine's own included. It reports which page
makes the request (Origin, Sec-Fetch-Site) and which name it used (Host), and a page can forge none of these. So this
layer, the first to see a request, decides for HTTP and for WebSockets what the pages of other origins may do:

* Host must be a name of this server: a loopback name or address, the address that it listens on, the address of the
  connection, this machine's name if it listens on all addresses, the host of ``server.public_url``, or one of
  ``server.names``; on any port, as a tunnel or a container may publish another.
* Origin, if present, must have the host and port of Host, or be the origin of ``server.public_url``. Another port of
  this machine is another origin: any account may serve pages there.
* Sec-Fetch-Site, if present, must show that the request is from the server's own page or from the user; a link from
  elsewhere may open a page, but not the API.
* A request with a body must have a Content-Type: without one, a browser sends it with no preflight request, and Prefect
  would accept it as JSON.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_PORTS: Final = {"http": 80, "https": 443}
_ALL: Final = frozenset({"0.0.0.0", "::"})
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_LONGEST: Final = 200  # characters of a header that a message repeats


class Refusal(NamedTuple):
    """The status and the message of a refused request."""

    status: int
    message: str


class Guarded:
    """An ASGI application that answers only requests to its own names and from its own pages.

    Parameters
    ----------
    app
        The application.
    host
        The address that it listens on.
    public_url
        URL at which browsers reach it.
    names
        Its further names and addresses, without a port.
    """

    def __init__(
        self, app: ASGIApp, host: str, public_url: str | None = None, names: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._origin = _origin(public_url or "")
        ours = {"localhost", host, *names, *([self._origin[1]] if self._origin else [])}
        if host in _ALL:
            ours |= {socket.gethostname(), socket.getfqdn()}
        self._names = frozenset(map(_plain, ours)) - _ALL

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or refuse it with the reason."""
        refusal = self.refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            await receive()  # the request to connect
        await refuse(scope, send, refusal)

    def refusal(self, scope: Scope) -> Refusal | None:
        """Return why a request is refused; None if it is accepted."""
        hosts = _values(scope, b"host")
        server = scope.get("server") or ("", 0)
        if len(hosts) != 1 or not self._is_ours(host_of(hosts[0]), server[0]):
            return _misaddressed(hosts)
        for origin in _values(scope, b"origin"):
            if not self._is_allowed(origin, hosts[0]):
                return _foreign(origin)
        for site in _values(scope, b"sec-fetch-site"):
            if site not in ("same-origin", "none") and not _opens_page(scope):
                return Refusal(
                    403,
                    f"Sec-Fetch-Site: {_printable(site)} is refused: a page of another origin may only open pages of "
                    "this server by a link. No setting allows more.",
                )
        if scope["type"] == "http" and scope["method"] in _WITH_BODY and _has_body(scope):
            kinds = _values(scope, b"content-type")
            if not kinds or not all(kinds):
                return Refusal(
                    415,
                    f"{scope['method']} with a body and no Content-Type header is refused, as any page of the web "
                    "could send it. Send Content-Type: application/json.",
                )
        return None

    def _is_ours(self, name: str, local: str) -> bool:
        # An IPv4 connection to an IPv6 socket has an address such as ::ffff:192.0.2.1.
        if name in self._names or name == _plain(local).removeprefix("::ffff:"):
            return bool(name)
        return is_loopback(name)

    def _is_allowed(self, origin: str, host: str) -> bool:
        sender = _origin(origin)
        if sender is None:
            return False
        if sender == self._origin:
            return True
        # A proxy in front may speak TLS with the browser: scheme and default port are those of the browser.
        return sender == _origin(f"{sender[0]}://{host}")


async def refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Answer a request, or a WebSocket's handshake, with a plain message."""
    body = f"{refusal.message}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
    ]
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.message[:100]})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _misaddressed(hosts: list[str]) -> Refusal:
    if len(hosts) != 1:
        return Refusal(400, f"A request needs one Host header; this one has {len(hosts)}.")
    name = _printable(host_of(hosts[0]))
    return Refusal(
        421,
        f"Host: {_printable(hosts[0])} is not a name of this server. If browsers or clients should reach it by that "
        f"name, add {name} to the setting server.names (NIRFLOW_SERVER_NAMES='[\"{name}\"]'), or give the address that "
        "browsers use as server.public_url (NIRFLOW_SERVER_PUBLIC_URL); then nirflow down, nirflow up.",
    )


def _foreign(origin: str) -> Refusal:
    return Refusal(
        403,
        f"Origin: {_printable(origin)} is refused: pages of other origins may not use this server. If that is the "
        "address at which browsers reach its own pages, give it as the setting server.public_url "
        "(NIRFLOW_SERVER_PUBLIC_URL); then nirflow down, nirflow up.",
    )


def _opens_page(scope: Scope) -> bool:
    """Return whether a browser opens a page in a tab, from a link elsewhere."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and _values(scope, b"sec-fetch-mode") == ["navigate"]
        and _values(scope, b"sec-fetch-dest") == ["document"]
        and not of_api(scope["path"])
    )


def of_api(path: str) -> bool:
    """Return whether a path belongs to the API."""
    return path.lstrip("/").split("/", 1)[0].lower() == "api"


def is_loopback(name: str) -> bool:
    """Return whether this is a loopback address."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _has_body(scope: Scope) -> bool:
    if _values(scope, b"transfer-encoding"):
        return True
    return any(length.strip() != "0" for length in _values(scope, b"content-length"))


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for one, value in scope["headers"] if one.lower() == name]


def host_of(value: str) -> str:
    """Return the name in a Host header, without its port."""
    bare, _, port = value.rpartition(":")
    return _plain(bare if bare and port.isdecimal() and not bare.endswith(":") else value)


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of a URL; None if it lacks them, such as the origin ``null``."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if port is None or parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        return None
    return parts.scheme, _plain(parts.hostname), port


def _printable(value: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in value[:_LONGEST])

"""Requests that the Prefect server answers: those to it by a name of its own, and none that a foreign page makes.

A browser sends whatever a page asks for to any address that it reaches, this machine's own included. It says which
page asks (Origin, Sec-Fetch-Site) and by which name it came (Host), and a page can forge none of these. So what the
pages of other origins may do is decided here, for HTTP and for WebSockets, before anything else looks at a request:

* Host has to be a name of this server: a loopback name or address, the address that it listens on, the one by which
  the connection came, this machine's name where it listens on all addresses, the host of ``server.public_url``, or
  one of ``server.names``; on any port, as a tunnel or a container may publish another.
* Origin, where there is one, has to have the host and port of Host, or be the origin of ``server.public_url``. Another
  port of this machine is another origin: there may be anybody's pages.
* Sec-Fetch-Site, where there is one, has to say that the server's own page asks or the user; a link from elsewhere
  may open a page, but not the API.
* A body has to have a Content-Type: without one a browser asks nobody's leave to send it, and Prefect would take it
  for JSON.
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
    """Why a request is refused."""

    status: int
    message: str


class Guarded:
    """An ASGI application that answers requests by its own names and from its own pages only.

    Parameters
    ----------
    app
        The application.
    host
        The address that it listens on.
    public_url
        By which browsers reach it.
    names
        Further names and addresses of it, without a port.
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
        """Answer, or say why not."""
        refusal = self.refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            await receive()  # the request to connect
        await refuse(scope, send, refusal)

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why a request is refused; None where it is not."""
        hosts = _values(scope, b"host")
        server = scope.get("server") or ("", 0)
        if len(hosts) != 1 or not self._is_ours(host_of(hosts[0]), server[0]):
            return _misaddressed(hosts)
        for origin in _values(scope, b"origin"):
            if not self._may_ask(origin, hosts[0]):
                return _foreign(origin)
        for site in _values(scope, b"sec-fetch-site"):
            if site not in ("same-origin", "none") and not _opens_page(scope):
                return Refusal(
                    403,
                    f"Sec-Fetch-Site: {_shown(site)} is refused: a page of another origin may open the pages of this "
                    "server by a link, and do nothing else. No setting allows it.",
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
        # By IPv4 on a socket of IPv6, an address comes as ::ffff:192.0.2.1.
        if name in self._names or name == _plain(local).removeprefix("::ffff:"):
            return bool(name)
        return is_loopback(name)

    def _may_ask(self, origin: str, host: str) -> bool:
        asking = _origin(origin)
        if asking is None:
            return False
        if asking == self._origin:
            return True
        # A proxy in front may speak TLS with the browser: the scheme is the browser's, the port goes with it.
        return asking == _origin(f"{asking[0]}://{host}")


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
    name = _shown(host_of(hosts[0]))
    return Refusal(
        421,
        f"Host: {_shown(hosts[0])} is no name of this server. If browsers or clients are to reach it by that name, "
        f"add {name} to the setting server.names (NIRFLOW_SERVER_NAMES='[\"{name}\"]'), or give the address that "
        "browsers use as server.public_url (NIRFLOW_SERVER_PUBLIC_URL); then nirflow down, nirflow up.",
    )


def _foreign(origin: str) -> Refusal:
    return Refusal(
        403,
        f"Origin: {_shown(origin)} is refused: pages of other origins may not use this server. If that is the address "
        "by which browsers reach its own pages, give it as the setting server.public_url "
        "(NIRFLOW_SERVER_PUBLIC_URL); then nirflow down, nirflow up.",
    )


def _opens_page(scope: Scope) -> bool:
    """Whether a browser opens a page in a tab, by a link from elsewhere."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and _values(scope, b"sec-fetch-mode") == ["navigate"]
        and _values(scope, b"sec-fetch-dest") == ["document"]
        and not of_api(scope["path"])
    )


def of_api(path: str) -> bool:
    """Whether a path is the API's."""
    return path.lstrip("/").split("/", 1)[0].lower() == "api"


def is_loopback(name: str) -> bool:
    """Whether this is an address of loopback."""
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
    """The name in a Host header, without its port."""
    bare, _, port = value.rpartition(":")
    return _plain(bare if bare and port.isdecimal() and not bare.endswith(":") else value)


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of a URL; None where it has none, such as that of a page without origin (null)."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if port is None or parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        return None
    return parts.scheme, _plain(parts.hostname), port


def _shown(value: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in value[:_LONGEST])

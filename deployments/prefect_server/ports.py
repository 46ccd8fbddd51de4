"""The port of the Prefect server: bound for it, and kept from other accounts by everybody who sends it the password.

A server that dies leaves its port to whoever asks first, and its clients would send the password there. So each
client holds the port too: it binds it without listening, which the kernel allows to sockets of one account only
(SO_REUSEPORT). While it can, nobody else listens there; where it cannot, somebody else does.

A name such as ``localhost`` stands for an address of IPv4 and one of IPv6, and browsers try the latter first. So the
same port of the other address, the twin, is kept as well: a server has it or does not listen, and from then on it is
the server itself that holds it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import socket
import threading
from typing import Final
from urllib.parse import urlsplit

from imaging.errors import NirflowError

#: The address that the same names stand for in the other family.
_TWINS: Final = {"127.0.0.1": "::1", "localhost": "::1", "::1": "127.0.0.1", "0.0.0.0": "::"}
#: How it fails to bind an address of a family that this machine does not have.
_NO_SUCH_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
#: Any free port may be taken at the twin; so many are tried.
_TRIES: Final = 10
_held: Final[dict[tuple[str, int], socket.socket]] = {}
_lock: Final = threading.Lock()


class PortTakenError(NirflowError):
    """Another account listens where the server should."""


def listen(host: str, port: int, *, left_behind: bool = False) -> socket.socket:
    """Bind a port and listen, and hold the same port of the twin.

    Parameters
    ----------
    host, port
        The address; port 0 is any free one.
    left_behind
        Whether clients of a server that is gone may hold this port, so that it counts as free where nobody listens.

    Raises
    ------
    OSError
        Where it is taken, at the twin too, or the host is none of this machine's.
    """
    for left in reversed(range(1 if port else _TRIES)):
        listener = _listen_here(host, port, left_behind)
        try:
            hold_twin(host, listener.getsockname()[1])
        except OSError as error:
            listener.close()
            if not left or error.errno != errno.EADDRINUSE:
                raise
        else:
            return listener
    raise AssertionError("the last try either listens or raises")


def _listen_here(host: str, port: int, left_behind: bool) -> socket.socket:
    try:
        return _listen(host, port, shared=False)
    except OSError as error:
        if not left_behind or error.errno != errno.EADDRINUSE or _answers(host, port):
            raise
    return _listen(host, port, shared=True)


def _listen(host: str, port: int, *, shared: bool) -> socket.socket:
    listener = _socket(host, both=host == "::")  # all addresses, of IPv4 too
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        # Set after the port was had for oneself: two servers never share one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def hold(host: str, port: int) -> bool:
    """Keep a port from other accounts as long as this process lives, or until `release`; whether that is so.

    Called again it holds on. No connection ever comes to this socket: it does not listen. The twin is held too where
    that is possible: no client goes there, but a browser may, once the server is gone.
    """
    try:
        _hold(host, port, both=host == "::")
    except OSError:
        return False
    with contextlib.suppress(OSError):
        hold_twin(host, port)
    return True


def hold_twin(host: str, port: int) -> None:
    """Keep the same port of the twin from other accounts; nothing where there is none, or no such family.

    Raises
    ------
    OSError
        Where another account has it, or another program that does not share it.
    """
    if (twin := _TWINS.get(host)) is None:
        return
    try:
        _hold(twin, port, both=False)
    except OSError as error:
        if error.errno not in _NO_SUCH_FAMILY:
            raise


def _hold(host: str, port: int, *, both: bool) -> None:
    with _lock:
        if (host, port) in _held:
            return
        holder = _socket(host, both=both)
        try:
            # Not SO_REUSEADDR as well: with that another account could bind it.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((host, port))
        except OSError:
            holder.close()
            raise
        _held[host, port] = holder


def release(host: str, port: int) -> None:
    """Hold a port no longer, at the twin neither."""
    with _lock:
        for one in (host, _TWINS.get(host, host)):
            if holder := _held.pop((one, port), None):
                holder.close()


@atexit.register
def _release_all() -> None:
    for host, port in list(_held):
        release(host, port)


def hold_url(url: str) -> None:
    """Keep the port of a server of ours, given by its URL, from other accounts.

    Raises
    ------
    PortTakenError
        Where another account has it, or another program that does not share it.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    if not hold(host, port):
        raise PortTakenError(
            f"Port {port} of {host} belongs to another program than nirflow's Prefect server, which gets no password.",
            remedy="Start everything again: nirflow down, nirflow up.",
        )


def _answers(host: str, port: int) -> bool:
    there = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    with socket.socket(_family(there), socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        return asking.connect_ex((there, port)) != errno.ECONNREFUSED


def _socket(host: str, *, both: bool = False) -> socket.socket:
    one = socket.socket(_family(host), socket.SOCK_STREAM)
    if one.family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
    return one


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET

"""The port of the Prefect server, which every client that sends the password also protects from other accounts.

When a server dies, any account may take its port, and its clients would send the password there. So each client holds
the port too: it binds it without listening, which the kernel allows only to sockets of the same account (SO_REUSEPORT).
If that succeeds, no other account listens there; if it fails, another program does.

A name such as ``localhost`` stands for an IPv4 and an IPv6 address, and browsers try the latter first. So the same port
of the other address, the twin, is protected as well: a server that cannot bind it does not listen, and otherwise holds
it from then on.
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

#: The address with the same names in the other family.
_TWINS: Final = {"127.0.0.1": "::1", "localhost": "::1", "::1": "127.0.0.1", "0.0.0.0": "::"}
#: Errors when binding an address of a family that this machine does not support.
_NO_SUCH_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
#: Number of free ports to try, as each may be taken at the twin.
_TRIES: Final = 10
_held: Final[dict[tuple[str, int], socket.socket]] = {}
_lock: Final = threading.Lock()


class PortTakenError(NirflowError):
    """A port at which another program listens instead of the server."""


def listen(host: str, port: int, *, left_behind: bool = False) -> socket.socket:
    """Bind a port and listen, and hold the same port of the twin.

    Parameters
    ----------
    host, port
        The address; port 0 for any free one.
    left_behind
        Whether clients of a server that has ended may hold this port, so that it counts as free if nobody listens.

    Raises
    ------
    OSError
        If it is taken, here or at the twin, or the host is not an address of this machine.
    """
    for tries_left in reversed(range(1 if port else _TRIES)):
        listener = _listen_here(host, port, left_behind)
        try:
            hold_twin(host, listener.getsockname()[1])
        except OSError as error:
            listener.close()
            if not tries_left or error.errno != errno.EADDRINUSE:
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
    listener = _socket(host, both=host == "::")  # all addresses, including IPv4
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        # Set only after an exclusive bind, so that two servers never share a port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def hold(host: str, port: int) -> bool:
    """Protect a port from other accounts until this process ends or calls `release`; return whether that succeeded.

    Further calls have no effect. The socket receives no connections, as it does not listen. The twin is held too if
    possible: no client connects there, but a browser may, once the server has ended.
    """
    try:
        _hold(host, port, both=host == "::")
    except OSError:
        return False
    with contextlib.suppress(OSError):
        hold_twin(host, port)
    return True


def hold_twin(host: str, port: int) -> None:
    """Protect the same port of the twin from other accounts, if the host has a twin and the machine its family.

    Raises
    ------
    OSError
        If another account uses it, or a program that does not share it.
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
    """Release a port and that of its twin."""
    with _lock:
        for one in (host, _TWINS.get(host, host)):
            if holder := _held.pop((one, port), None):
                holder.close()


@atexit.register
def _release_all() -> None:
    for host, port in list(_held):
        release(host, port)


def hold_url(url: str) -> None:
    """Protect the port of one of our servers, given by its URL, from other accounts.

    Raises
    ------
    PortTakenError
        If another account uses it, or a program that does not share it.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    if not hold(host, port):
        raise PortTakenError(
            f"Port {port} of {host} is used by another program than nirflow's Prefect server; no password was sent.",
            remedy="Restart nirflow: nirflow down, nirflow up.",
        )


def _answers(host: str, port: int) -> bool:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    with socket.socket(_family(reachable), socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((reachable, port)) != errno.ECONNREFUSED


def _socket(host: str, *, both: bool = False) -> socket.socket:
    one = socket.socket(_family(host), socket.SOCK_STREAM)
    if one.family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
    return one


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET

"""The port of the Prefect server: bound for it, and kept from other accounts by everybody who sends it the password.

A server that dies leaves its port to whoever asks first, and its clients would send the password there. So each
client holds the port too: it binds it without listening, which the kernel allows to sockets of one account only
(SO_REUSEPORT). While it can, nobody else listens there; where it cannot, somebody else does.
"""

from __future__ import annotations

import atexit
import errno
import socket
import threading
from typing import Final
from urllib.parse import urlsplit

from imaging.errors import NirflowError

_held: Final[dict[tuple[str, int], socket.socket]] = {}
_lock: Final = threading.Lock()


class PortTakenError(NirflowError):
    """Another account listens where the server should."""


def listen(host: str, port: int, *, left_behind: bool = False) -> socket.socket:
    """Bind a port and listen.

    Parameters
    ----------
    host, port
        The address; port 0 is any free one.
    left_behind
        Whether clients of a server that is gone may hold this port, so that it counts as free where nobody listens.

    Raises
    ------
    OSError
        Where it is taken, or the host is none of this machine's.
    """
    try:
        return _listen(host, port, shared=False)
    except OSError as error:
        if not left_behind or error.errno != errno.EADDRINUSE or _answers(host, port):
            raise
    return _listen(host, port, shared=True)


def _listen(host: str, port: int, *, shared: bool) -> socket.socket:
    listener = socket.socket(_family(host), socket.SOCK_STREAM)
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

    Called again it holds on. No connection ever comes to this socket: it does not listen.
    """
    with _lock:
        if (host, port) in _held:
            return True
        holder = socket.socket(_family(host), socket.SOCK_STREAM)
        try:
            # Not SO_REUSEADDR as well: with that another account could bind it.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((host, port))
        except OSError:
            holder.close()
            return False
        _held[host, port] = holder
    return True


def release(host: str, port: int) -> None:
    """Hold a port no longer."""
    with _lock:
        if holder := _held.pop((host, port), None):
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


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET

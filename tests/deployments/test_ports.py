"""The server's port: had alone, shared with those who keep it, found again by the next server."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from deployments import ports
from deployments.ports import PortTakenError, hold, hold_url, listen, release


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    one = listen("127.0.0.1", 0)
    port = port_of(one)
    yield one
    one.close()
    release("127.0.0.1", port)


def port_of(one: socket.socket) -> int:
    return int(one.getsockname()[1])


def test_two_servers_never_share_a_port(listener: socket.socket) -> None:
    assert hold("127.0.0.1", port_of(listener))
    for left_behind in (False, True):
        with pytest.raises(OSError, match="in use"):
            listen("127.0.0.1", port_of(listener), left_behind=left_behind)


def test_who_keeps_a_port_gets_none_of_its_connections(listener: socket.socket) -> None:
    assert hold("127.0.0.1", port_of(listener))
    assert hold("127.0.0.1", port_of(listener))
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port_of(listener))):
            listener.accept()[0].close()


def test_the_port_of_a_server_that_is_gone_waits_for_the_next_one_alone(listener: socket.socket) -> None:
    port = port_of(listener)
    assert hold("127.0.0.1", port)
    listener.close()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            squatter.bind(("127.0.0.1", port))
    with pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", port)
    with listen("127.0.0.1", port, left_behind=True) as again:
        assert port_of(again) == port
    release("127.0.0.1", port)
    listen("127.0.0.1", port).close()


@pytest.mark.parametrize("reuse", [(), (socket.SO_REUSEADDR,)])
def test_who_listens_there_without_sharing_is_a_stranger(reuse: tuple[int, ...]) -> None:
    with socket.socket() as stranger:
        for option in reuse:
            stranger.setsockopt(socket.SOL_SOCKET, option, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = port_of(stranger)
        assert not hold("127.0.0.1", port)
        with pytest.raises(PortTakenError, match=f"Port {port} of 127.0.0.1 belongs to another program"):
            hold_url(f"http://127.0.0.1:{port}/api")
        assert ("127.0.0.1", port) not in ports._held

"""The server's port: exclusive, shared with clients that protect it, and taken over by the next server."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from deployments.prefect_server import ports
from deployments.prefect_server.ports import PortTakenError, hold, hold_url, listen, release


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


def test_a_process_that_holds_a_port_gets_none_of_its_connections(listener: socket.socket) -> None:
    assert hold("127.0.0.1", port_of(listener))
    assert hold("127.0.0.1", port_of(listener))
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port_of(listener))):
            listener.accept()[0].close()


def test_the_port_of_an_ended_server_is_only_for_the_next_one(listener: socket.socket) -> None:
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
def test_a_program_that_listens_without_sharing_is_refused(reuse: tuple[int, ...]) -> None:
    with socket.socket() as stranger:
        for option in reuse:
            stranger.setsockopt(socket.SOL_SOCKET, option, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = port_of(stranger)
        assert not hold("127.0.0.1", port)
        with pytest.raises(PortTakenError, match=f"Port {port} of 127.0.0.1 is used by another program"):
            hold_url(f"http://127.0.0.1:{port}/api")
        assert ("127.0.0.1", port) not in ports._held


IPV6 = {"127.0.0.1": "::1", "localhost": "::1", "0.0.0.0": "::1", "::1": "127.0.0.1"}


def refused_at(address: str, port: int) -> bool:
    """Return whether another program cannot listen there."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            squatter.bind((address, port))
        except OSError:
            return True
        return False


@pytest.mark.parametrize(("host", "twin"), IPV6.items())
def test_no_other_program_can_listen_on_the_twin_address(host: str, twin: str) -> None:
    with listen(host, 0) as one:
        port = port_of(one)
        assert refused_at(twin, port)
    assert refused_at(twin, port)  # its server has ended, but this process still holds it
    release(host, port)
    assert not refused_at(twin, port)


@pytest.mark.parametrize(("host", "twin"), IPV6.items())
def test_a_client_holds_both_addresses(host: str, twin: str) -> None:
    with listen(host, 0) as one:
        port = port_of(one)
        release(host, port)
        assert hold(host, port)
    assert refused_at(host, port)
    assert refused_at(twin, port)
    release(host, port)
    assert not refused_at(twin, port)


@pytest.mark.parametrize(("host", "twin"), IPV6.items())
def test_a_server_does_not_listen_if_another_program_has_the_twin_address(host: str, twin: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in twin else socket.AF_INET) as stranger:
        stranger.bind((twin, 0))
        stranger.listen()
        port = port_of(stranger)
        with pytest.raises(OSError, match="in use"):
            listen(host, port)
        assert not {key for key in ports._held if key[1] == port}
    with listen(host, port):
        pass
    release(host, port)


def test_a_client_continues_if_another_program_has_the_unused_twin_address() -> None:
    with socket.socket(socket.AF_INET6) as stranger:
        stranger.bind(("::1", 0))
        stranger.listen()
        port = port_of(stranger)
        assert hold("127.0.0.1", port)
    assert not refused_at("::1", port)
    assert hold("127.0.0.1", port)  # called again, it holds what has become free
    assert refused_at("::1", port)
    release("127.0.0.1", port)


@pytest.mark.parametrize("missing", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_without_ipv6_there_is_nothing_to_hold(missing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_ipv6(host: str, port: int, *, both: bool) -> None:
        raise OSError(missing, "no such family")

    monkeypatch.setattr(ports, "_hold", no_ipv6)
    with listen("127.0.0.1", 0) as one:
        assert port_of(one)


def test_on_all_addresses_it_answers_over_ipv4_and_ipv6() -> None:
    with listen("::", 0) as one:
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port_of(one))):
                one.accept()[0].close()

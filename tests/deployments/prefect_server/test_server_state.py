"""The server's port: only our own server gets requests, and clients protect the port from others."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.prefect_server import ports
from deployments.prefect_server.ports import listen, release
from deployments.prefect_server.server_state import (
    ServerState,
    answers,
    keep_port_of,
    keeps_port,
    write_state,
)


def state_at(port: int, *, closed: bool = True) -> ServerState:
    return ServerState(1, "boot:1", "127.0.0.1", port, port, closed=closed)


@pytest.fixture
def stranger() -> Iterator[tuple[int, list[bytes]]]:
    """The port of another program that listens instead of the server, and what it received."""
    sent: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    sent.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1]), sent
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_another_program_on_its_port_gets_no_request(stranger: tuple[int, list[bytes]]) -> None:
    port, sent = stranger
    assert not keeps_port(state_at(port))
    assert not answers(state_at(port))
    assert sent == []


def test_a_server_started_by_an_earlier_nirflow_is_used_without_holding_its_port(
    stranger: tuple[int, list[bytes]],
) -> None:
    port, sent = stranger
    assert answers(state_at(port, closed=False))
    assert sent[0].startswith(b"GET /api/ready ")
    assert b"Authorization" not in sent[0]


def test_a_part_protects_only_the_port_of_its_own_server(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        keep_port_of(tmp_path, f"http://127.0.0.1:{port}/api")  # a server named by the user
        assert ("127.0.0.1", port) not in ports._held
        (tmp_path / "prefect").mkdir()
        write_state(tmp_path / "prefect", state_at(port))
        keep_port_of(tmp_path, "http://127.0.0.1:1/api")
        assert ("127.0.0.1", port) not in ports._held
        keep_port_of(tmp_path, f"http://127.0.0.1:{port}/api")
        assert ("127.0.0.1", port) in ports._held
    release("127.0.0.1", port)
    assert (tmp_path / "prefect" / "server.json").stat().st_mode & 0o777 == 0o600

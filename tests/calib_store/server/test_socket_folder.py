"""Who listens at the database's socket: nothing is sent to a server of another account."""

from __future__ import annotations

import os
import pwd
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from calib_store.server import postgres
from calib_store.server.account import RESERVED, Account
from calib_store.server.socket_folder import require_own_socket, required_peer
from imaging.errors import StoreError

OTHER_ACCOUNT = 20_419
PORT = 5432


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder whose server seems to be this process."""
    (tmp_path / "postgres").mkdir(mode=0o700)
    (tmp_path / "run").mkdir(mode=0o700)
    return tmp_path


@pytest.fixture
def sent(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Return what is sent to a foreign server at the socket."""
    monkeypatch.setattr(postgres, "running_pid", lambda _: os.getpid())
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(data_dir / "run" / f".s.PGSQL.{PORT}"))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(1000))

        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_server_in_a_folder_of_this_account_is_contacted(data_dir: Path, sent: list[bytes]) -> None:
    assert postgres.status(data_dir).running is False
    assert sent


@pytest.mark.parametrize("ask", [postgres.status, postgres.ensure_running])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_nothing_is_sent_to_a_server_in_a_folder_of_another_account(
    data_dir: Path, sent: list[bytes], ask: object
) -> None:
    os.chown(data_dir / "run", OTHER_ACCOUNT, OTHER_ACCOUNT)
    with pytest.raises(StoreError, match=f"belongs to another account .*account {OTHER_ACCOUNT}, mode 0700"):
        ask(data_dir)  # type: ignore[operator]
    assert sent == []


@pytest.mark.parametrize("ask", [postgres.status, postgres.ensure_running])
def test_nothing_is_sent_to_a_server_in_a_folder_open_to_others(
    data_dir: Path, sent: list[bytes], ask: object
) -> None:
    (data_dir / "run").chmod(0o711)
    with pytest.raises(StoreError, match="open to others"):
        ask(data_dir)  # type: ignore[operator]
    assert sent == []


def test_a_link_is_refused_and_a_missing_folder_is_not(data_dir: Path) -> None:
    (data_dir / "link").symlink_to("run")
    with pytest.raises(StoreError, match="another account"):
        require_own_socket(data_dir / "link", data_dir / "postgres")
    require_own_socket(data_dir / "none", data_dir / "postgres")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a server of another account's")
def test_root_accepts_the_account_that_owns_the_cluster(data_dir: Path) -> None:
    for folder in ("run", "postgres"):
        os.chown(data_dir / folder, OTHER_ACCOUNT, OTHER_ACCOUNT)
    require_own_socket(data_dir / "run", data_dir / "postgres")


def test_libpq_itself_verifies_the_server(
    data_dir: Path, sent: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the folder is replaced after it was checked."""
    monkeypatch.setattr("calib_store.server.socket_folder.os.geteuid", lambda: 1)
    assert required_peer() == {"requirepeer": "daemon"}
    address = postgres.address_of(data_dir)
    with pytest.raises(psycopg.OperationalError, match="requirepeer specifies"):
        address.connect("nirflow")
    assert address.url("nirflow").query["requirepeer"] == "daemon"
    assert "requirepeer" not in address.prefect_url()  # asyncpg would mistake it for a setting of the server
    assert all(not packet for packet in sent)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize(("shared", "refused"), [(0o1777, True), (0o700, False)])
def test_root_refuses_a_folder_of_nobodys_in_a_world_writable_place(
    tmp_path: Path, shared: int, refused: bool
) -> None:
    nobody = pwd.getpwnam("nobody")
    parent = tmp_path / "shared"
    parent.mkdir()
    parent.chmod(shared)
    folder = parent / "nirflow-0"
    folder.mkdir(mode=0o700)
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    account = Account(RESERVED[0], RESERVED[0], ("setpriv",))
    if refused:
        with pytest.raises(StoreError, match="belongs to another account"):
            postgres._make_socket_dir(folder, account)
    else:
        postgres._make_socket_dir(folder, account)
    assert folder.stat().st_uid == (nobody.pw_uid if refused else account.uid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_root_hands_over_no_folder_with_foreign_contents(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    (folder / ".s.PGSQL.5432.lock").touch()  # left by a killed server
    account = Account(RESERVED[0], RESERVED[0], ("setpriv",))
    postgres._make_socket_dir(folder, account)
    os.chown(folder, 0, 0)
    (folder / "precious").touch()
    with pytest.raises(StoreError, match="belongs to another account"):
        postgres._make_socket_dir(folder, account)
    assert folder.stat().st_uid == 0

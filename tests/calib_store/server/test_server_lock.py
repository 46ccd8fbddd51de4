"""One live server for a data folder, whatever container or machine it was started in."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until

from calib_store.server import postgres
from calib_store.server.postmaster import alive, claimed, held_elsewhere
from imaging.errors import StoreError


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A data folder with a long name, whose socket is in the temporary folder; its server is stopped at the end."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    yield folder
    postgres.stop(folder)


def kill(folder: Path) -> None:
    pid = postgres.status(folder).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: not alive(pid) and not held_elsewhere(folder / "postgres.host"), "the end of the server"
    )


def as_in_another_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process see no server, and have another host name."""
    monkeypatch.setattr("calib_store.server.postmaster.socket.gethostname", lambda: "second")
    monkeypatch.setattr("calib_store.server.postmaster._process_namespace", lambda: "pid:[1]")
    monkeypatch.setattr(postgres, "running_pid", lambda _: None)
    monkeypatch.setattr("calib_store.server.postmaster.running_pid", lambda _: None)
    monkeypatch.setattr(postgres, "require_no_orphans", lambda _: None)


def test_a_live_server_elsewhere_is_left_alone(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres.ensure_running(own)
    pid = postgres.status(own).pid
    note = (own / "postgres.host").read_text()
    assert held_elsewhere(own / "postgres.host")
    with monkeypatch.context() as patch:
        as_in_another_container(patch)
        with pytest.raises(StoreError, match=f"runs on {note.split()[0]}, in a container") as caught:
            postgres.ensure_running(own)
        assert "delete" not in caught.value.remedy
        assert postgres.stop(own) is False
    assert postgres.status(own).pid == pid
    assert postgres.address_of(own).socket_dir.is_dir()
    assert (own / "postgres.host").read_text() == note


def test_a_server_that_was_killed_with_its_container_is_replaced(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.ensure_running(own)
    kill(own)
    assert (own / "postgres" / "postmaster.pid").exists()
    with monkeypatch.context() as patch:
        patch.setattr("calib_store.server.postmaster.socket.gethostname", lambda: "second")
        postgres.ensure_running(own)
    assert (own / "postgres.host").read_text().split()[0] == "second"
    assert postgres.status(own).running


def test_a_server_on_a_network_disk_may_hold_a_lock_that_is_not_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, note = tmp_path / "postgres", tmp_path / "postgres.host"
    cluster.mkdir()
    (cluster / "postmaster.pid").touch()
    disks: dict[str, str | None] = {"disk": "nfs4"}
    monkeypatch.setattr("calib_store.server.postmaster.network_disk", lambda _: disks["disk"])

    def claims(host: str, namespace: str = "pid:[1]") -> None:
        monkeypatch.setattr("calib_store.server.postmaster.socket.gethostname", lambda: host)
        monkeypatch.setattr("calib_store.server.postmaster._process_namespace", lambda: namespace)
        with claimed(cluster, note):
            pass

    claims("first")
    claims("first", "pid:[2]")  # another container of the same machine, which sees its locks
    with pytest.raises(
        StoreError, match="was started on first on a disk of type nfs4, which may hide"
    ) as caught:
        claims("second")
    assert f"delete {note}" in caught.value.remedy
    assert note.read_text().startswith("first ")
    (cluster / "postmaster.pid").unlink()  # shut down properly
    claims("second")
    (cluster / "postmaster.pid").touch()
    disks["disk"] = None
    claims("third")


def test_the_folder_of_the_socket_goes_with_the_server(own: Path) -> None:
    folder = postgres.ensure_running(own).socket_dir
    assert own not in folder.parents
    assert postgres.stop(own)
    assert not folder.exists()
    postgres.ensure_running(own)
    kill(own)
    assert folder.is_dir()
    assert postgres.stop(own) is False  # none runs, but its folder is left
    assert not folder.exists()


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, os.strerror(37))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(StoreError, match="No locks available") as caught:
        postgres.ensure_running(tmp_path)
    assert "file system with locks" in caught.value.remedy


def test_a_disk_without_room_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "free_bytes", lambda _: 5 * 10**6)
    with pytest.raises(StoreError, match=r"no room for the store's database: 100.0 MB needed, 5.0 MB free"):
        postgres.ensure_running(tmp_path)
    assert not (tmp_path / "postgres").exists()

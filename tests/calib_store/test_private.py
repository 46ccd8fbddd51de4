from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from calib_store.model.settings import StoreSettings
from calib_store.private import (
    PRIVATE_PARTS,
    NotPrivateError,
    private_folder,
    tighten_data_folder,
    write_private,
)
from calib_store.server.places import open_database
from deployments.arrivals.watcher import sole_watcher
from deployments.prefect_server.server import ensure_server
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import ServerSettings
from deployments.supervisor import service
from imaging.io.atomic import write_complete
from imaging.io.planes import PlanesWriter, write_planes

OTHER_ACCOUNT = 20_417


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make everything here belong to a different account."""
    ours = os.geteuid()
    monkeypatch.setattr("calib_store.private.os.geteuid", lambda: ours + OTHER_ACCOUNT)


def test_a_new_folder_and_its_new_parents_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "share" / "nirflow" / "logs"
    assert private_folder(folder) == folder
    assert [mode(path) for path in (folder, folder.parent, folder.parents[1])] == [0o700] * 3
    assert private_folder(folder) == folder


def test_a_folder_of_this_account_is_tightened_and_its_parents_are_left(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "logs"
    folder.mkdir(parents=True)
    folder.chmod(0o2775)
    folder.parent.chmod(0o755)
    private_folder(folder)
    assert mode(folder) == 0o2700
    assert mode(folder.parent) == 0o755


def test_a_link_of_this_account_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("there")
    private_folder(tmp_path / "link")
    assert mode(tmp_path / "there") == 0o700


@pytest.mark.usefixtures("elsewhere")
def test_a_folder_of_another_account_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(NotPrivateError, match=f"belongs to account {tmp_path.stat().st_uid} ") as caught:
        private_folder(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert "chown" in caught.value.remedy
    assert mode(tmp_path) == 0o777


@pytest.mark.usefixtures("elsewhere")
def test_a_folder_of_root_is_accepted_as_it_is() -> None:
    before = mode(Path("/usr"))
    private_folder(Path("/usr"))
    assert mode(Path("/usr")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_link_that_another_account_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    os.chown(tmp_path / "link", OTHER_ACCOUNT, OTHER_ACCOUNT, follow_symlinks=False)
    with pytest.raises(NotPrivateError, match=f"belongs to account {OTHER_ACCOUNT} "):
        private_folder(tmp_path / "link")
    assert mode(tmp_path / "there") != 0o700


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(NotADirectoryError):
        private_folder(tmp_path / "logs")


def test_a_private_file_is_private_from_its_creation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "server.json"
    path.write_text("old")
    path.chmod(0o664)
    seen: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr("imaging.io.atomic.os.fsync", fsync)
    write_private(path, "secret")
    assert seen[0] == 0o600
    assert mode(path) == 0o600
    assert path.read_text() == "secret"
    assert sorted(tmp_path.iterdir()) == [path]


def test_any_other_file_follows_the_umask(tmp_path: Path) -> None:
    write_complete(tmp_path / "product.fits", [b"x"])
    assert mode(tmp_path / "product.fits") == 0o664


def test_folders_that_an_earlier_nirflow_left_open_are_tightened_when_the_store_is_opened(
    tmp_path: Path,
) -> None:
    for name in (*PRIVATE_PARTS, "nights", "objects"):
        (tmp_path / name).mkdir(mode=0o775)
    tmp_path.chmod(0o755)
    url = SecretStr("postgresql://nobody.invalid/x")
    open_database(StoreSettings(data_dir=tmp_path, database_url=url)).close()
    assert {name: mode(tmp_path / name) for name in PRIVATE_PARTS} == dict.fromkeys(PRIVATE_PARTS, 0o700)
    assert mode(tmp_path) == 0o755
    assert mode(tmp_path / "nights") == mode(tmp_path / "objects") == 0o775


@pytest.mark.usefixtures("elsewhere")
def test_a_data_folder_of_another_account_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir(mode=0o775)
    tighten_data_folder(tmp_path)
    tighten_data_folder(tmp_path / "none")
    assert mode(tmp_path / "logs") == 0o775


def test_private_folders_are_created_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    sole_watcher(data / "watcher").close()
    plane = np.zeros((2, 2), np.float32)
    write_planes(data / "scratch" / "a", {"SCI": plane})
    with PlanesWriter(tmp_path / "other" / "scratch" / "b", {"SCI": (plane.dtype, plane.shape)}):
        pass
    monkeypatch.setattr("deployments.supervisor.service._spawn", lambda _: pytest.fail("it was made"))
    with pytest.raises(pytest.fail.Exception, match="it was made"):
        service.start(Settings(data_dir=data))
    found = [data, *data.iterdir(), tmp_path / "other" / "scratch"]
    assert {path.name: mode(path) for path in found} == dict.fromkeys(
        ("data", "scratch", "service", "watcher"), 0o700
    )


def test_the_first_user_creates_a_private_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(
        "deployments.prefect_server.server._start", lambda *_, **__: pytest.fail("it was made")
    )
    with pytest.raises(pytest.fail.Exception, match="it was made"):
        ensure_server(tmp_path / "data", settings=ServerSettings())
    assert mode(tmp_path / "data") == mode(tmp_path / "data" / "prefect") == 0o700

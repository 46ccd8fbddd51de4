"""The password that nirflow creates for its server: for one account, once, refused if others may know it."""

from __future__ import annotations

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from calib_store.private import private_folder
from deployments.access.password import PasswordFileError, ensure, file_of, known
from deployments.settings.server_settings import ServerSettings

NONE = ServerSettings()


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_it_is_created_once_for_this_account_only(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert known(tmp_path, NONE) is None
        made = ensure(tmp_path, NONE)
    finally:
        os.umask(before)
    assert re.fullmatch(r"nirflow:[\w-]{32}", made)
    assert (mode(file_of(tmp_path)), mode(file_of(tmp_path).parent)) == (0o600, 0o700)
    assert file_of(tmp_path).read_text() == f"{made}\n"
    assert ensure(tmp_path, NONE) == known(tmp_path, NONE) == made
    assert [path.name for path in file_of(tmp_path).parent.iterdir()] == ["password"]


def test_two_folders_have_different_passwords(tmp_path: Path) -> None:
    assert ensure(tmp_path / "a", NONE) != ensure(tmp_path / "b", NONE)


def test_it_is_never_visible_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[int, int]] = []
    real = os.open

    def spy(path: object, flags: int, mode: int = 0o777, **more: int) -> int:
        if "password" in str(path) and flags & os.O_CREAT:
            opened.append((flags & os.O_EXCL, mode))
        return real(path, flags, mode, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", spy)
    ensure(tmp_path, NONE)
    assert opened == [(os.O_EXCL, 0o600)]


def test_simultaneous_calls_get_the_same_password(tmp_path: Path) -> None:
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(ensure(tmp_path, NONE))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 16
    assert len(set(got)) == 1


def test_the_password_of_the_settings_takes_precedence_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ServerSettings(auth="ana:hush")
    assert ensure(tmp_path, given) == known(tmp_path, given) == "ana:hush"
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "ana:theirs")
    assert ensure(tmp_path, NONE) == "ana:theirs"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [0o640, 0o604, 0o644, 0o620, 0o666])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, wrong: int) -> None:
    made = ensure(tmp_path, NONE)
    file_of(tmp_path).chmod(wrong)
    for ask in (known, ensure):
        with pytest.raises(PasswordFileError, match=rf"password \(mode {wrong:04o}, not 0600\)") as caught:
            ask(tmp_path, NONE)
        assert "Remove " in caught.value.remedy
        assert made.partition(":")[2] not in str(caught.value)


def test_a_file_of_another_account_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure(tmp_path, NONE)
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)
    with pytest.raises(PasswordFileError, match="belongs to another account"):
        known(tmp_path, NONE)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"nirflow", b":word", b"nirflow:", b"a:b\nc:d\n", b"a:\xff", b"a:" + b"b" * 5000]
)
def test_a_file_without_a_password_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    ensure(tmp_path, NONE)
    file_of(tmp_path).write_bytes(content)
    with pytest.raises(PasswordFileError, match="contains no USER:PASSWORD") as caught:
        ensure(tmp_path, NONE)
    assert str(file_of(tmp_path)) in caught.value.remedy


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_other_things_than_regular_files_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = file_of(tmp_path)
    private_folder(path.parent)
    (tmp_path / "elsewhere").write_text("a:b\n")
    (tmp_path / "elsewhere").chmod(0o600)
    makers = {
        "link": lambda: path.symlink_to(tmp_path / "elsewhere"),
        "fifo": lambda: os.mkfifo(path, 0o600),
        "folder": lambda: path.mkdir(0o700),
    }
    makers[kind]()
    with pytest.raises(PasswordFileError, match="password"):
        known(tmp_path, NONE)


def test_an_existing_folder_is_made_private(tmp_path: Path) -> None:
    folder = file_of(tmp_path).parent
    folder.mkdir()
    folder.chmod(0o755)
    ensure(tmp_path, NONE)
    assert mode(folder) == 0o700

"""The settings file of the working folder, the user's own and the named one: which of them can be trusted."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest
from command_line import run_nirflow

from calib_store.model.settings import StoreSettings, settings_file
from calib_store.model.settings_file import ForeignSettingsError, WrongSettingsError, read_settings_file
from deployments.settings.all_settings import Settings
from nirflow.exits import Exit

OTHER_ACCOUNT = 20_418


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file of the working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("NIRFLOW_CONFIG", raising=False)
    path = folder / "nirflow.toml"
    path.write_text('[worker]\ndask = "tcp://trap.invalid:8786"\n')
    path.chmod(0o644)
    return path


def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make nirflow run as a different account."""
    monkeypatch.setattr("calib_store.model.settings_file.os.geteuid", lambda: OTHER_ACCOUNT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_account_is_refused_and_named(here: Path) -> None:
    os.chown(here, OTHER_ACCOUNT, OTHER_ACCOUNT)
    message = f"{here} belongs to the account {OTHER_ACCOUNT} (mode 0644), and nirflow runs as root: "
    with pytest.raises(ForeignSettingsError, match=re.escape(message)) as caught:
        Settings()
    assert "NIRFLOW_CONFIG" in caught.value.remedy
    assert "chown" in caught.value.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_link_that_another_account_made_is_refused(here: Path) -> None:
    here.rename(here.with_name("other.toml"))
    here.symlink_to("other.toml")
    assert settings_file() == here
    os.chown(here, OTHER_ACCOUNT, OTHER_ACCOUNT, follow_symlinks=False)
    with pytest.raises(ForeignSettingsError):
        settings_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="a file of root's is needed")
def test_a_file_of_root_is_accepted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(monkeypatch)
    assert settings_file() == here


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_here_that_others_may_write_to_is_refused(here: Path, mode: int) -> None:
    here.chmod(mode)
    with pytest.raises(
        ForeignSettingsError, match=f"has mode {mode:04o}: other accounts may write"
    ) as caught:
        StoreSettings()
    assert str(here) in caught.value.message
    assert f"chmod go-w {here}" in caught.value.remedy


@pytest.mark.parametrize("named", [True, False], ids=["named", "own"])
def test_a_file_that_everybody_may_write_to_is_refused_wherever_it_is(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    own = tmp_path / "config" / "nirflow" / "nirflow.toml"
    own.parent.mkdir(parents=True)
    here.rename(own)
    if named:
        monkeypatch.setenv("NIRFLOW_CONFIG", str(own))
    own.chmod(0o664)
    assert settings_file() == own
    own.chmod(0o666)
    with pytest.raises(ForeignSettingsError, match="has mode 0666"):
        settings_file()


def test_in_a_working_folder_that_was_removed_there_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert read_settings_file() is None
    monkeypatch.setenv("NIRFLOW_CONFIG", "mine.toml")
    with pytest.raises(WrongSettingsError, match=r"mine\.toml: there is no such file"):
        read_settings_file()


def test_a_named_file_may_belong_to_anybody(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(monkeypatch)
    monkeypatch.setenv("NIRFLOW_CONFIG", str(here))
    assert settings_file() == here


@pytest.mark.parametrize("command", [["settings"], ["status"], ["cal", "list"], ["server", "status"]])
def test_a_command_stops_as_for_an_invalid_file(here: Path, command: list[str]) -> None:
    here.chmod(0o666)
    done = run_nirflow(*command)
    assert done.exit_code == Exit.USAGE
    assert "nirflow.toml" in done.stderr
    assert "chmod go-w" in done.stderr.replace("\n", " ")


def test_a_readable_file_is_warned_of_once_for_each_secret(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here.write_text(
        'database_url = "postgresql://u:hush@h/d"\n[server]\nauth = "u:hush"\nport = 1\n[notify]\nemail_to = ["a@b"]\n'
    )
    with caplog.at_level(logging.WARNING):
        StoreSettings()
        Settings()
        Settings()
    texts = [one.getMessage() for one in caplog.records if one.name == "calib_store.model.settings_file"]
    assert [text.split(" and has mode 0644")[0] for text in texts] == [
        f"{here} holds database_url", f"{here} holds server.auth",
    ]  # fmt: skip
    assert all(f"chmod 600 {here}" in text for text in texts)
    assert not any("hush" in text for text in texts)


def test_without_secrets_or_readers_there_is_no_warning(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    Settings()
    here.write_text('[server]\nauth = "u:hush"\n')
    here.chmod(0o600)
    Settings()
    assert [one for one in caplog.records if one.name == "calib_store.model.settings_file"] == []


def test_the_file_that_is_checked_is_the_file_that_is_read(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if another account replaces the file between the two."""
    real = os.fstat

    def swapped(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        if here.exists() and found.st_ino == here.stat().st_ino:
            other = here.with_name("other")
            other.write_text('[worker]\ndask = "tcp://swapped.invalid:8786"\n')
            other.chmod(0o666)
            other.rename(here)
        return found

    monkeypatch.setattr("calib_store.model.settings_file.os.fstat", swapped)
    read = read_settings_file()
    assert read is not None
    assert read.table == {"worker": {"dask": "tcp://trap.invalid:8786"}}


def test_a_link_of_this_account_is_followed(here: Path) -> None:
    here.rename(here.with_name("other.toml"))
    here.symlink_to("other.toml")
    assert Settings().worker.dask == "tcp://trap.invalid:8786"


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 100_000, "x = " + "9" * 5000, "\udcff", "# " + "x" * (1 << 20)]
)
def test_a_file_that_cannot_be_read_is_named(here: Path, text: str) -> None:
    here.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(WrongSettingsError, match=re.escape(str(here))):
        Settings()


@pytest.mark.parametrize("sign", [" ", '"', "<", ">", "\t"])
@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("NIRFLOW_OBJECTS_URL", "s3://key:hu{}sh@bucket/x"),
        ("NIRFLOW_WORKER_DASK", "tls://ana:hu{}sh@host:1"),
        ("NIRFLOW_SERVER_PUBLIC_URL", "https://ana:hu{}sh@host"),
    ],
)
def test_a_password_whose_end_is_ambiguous_is_refused_and_not_shown(
    here: Path, monkeypatch: pytest.MonkeyPatch, variable: str, address: str, sign: str
) -> None:
    monkeypatch.setenv(variable, address.format(sign))
    with pytest.raises(WrongSettingsError, match="write %20") as caught:
        Settings()
    assert variable in caught.value.remedy
    assert "sh@" not in str(caught.value)
    monkeypatch.setenv(variable, address.format("%20"))
    Settings()

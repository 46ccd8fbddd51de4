"""Places for the files of libraries, for an account without a home folder or one that it cannot write to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from calib_store import own_home
from calib_store.model.settings_file import NO_HOME
from calib_store.own_home import ensure_home


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of the settings."""
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "data"))
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data"


def test_a_home_folder_stays(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ensure_home()
    assert os.environ["HOME"] == str(tmp_path)
    assert not {"XDG_CACHE_HOME", "MPLCONFIGDIR"} & os.environ.keys()
    assert not data.exists()


@pytest.mark.parametrize("home", ["/nonexistent", "relative", "/proc/1/nothing"])
def test_a_missing_home_folder_is_replaced(data: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    ensure_home()
    assert os.environ["HOME"] == str(data / "home")
    assert (data / "home").stat().st_mode & 0o777 == 0o700


def test_a_home_folder_that_cannot_be_written_to_stays_without_caches(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", "/the/users")
    monkeypatch.setattr(own_home.os, "access", lambda *_: False)
    ensure_home()
    assert os.environ["HOME"] == str(tmp_path)
    assert os.environ["XDG_CACHE_HOME"] == str(data / "home" / ".cache")
    assert os.environ["MPLCONFIGDIR"] == "/the/users"


def test_without_a_data_folder_libraries_keep_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "file" / "data"))
    monkeypatch.setenv("HOME", "relative")
    ensure_home()
    assert os.environ["HOME"] == NO_HOME


def test_all_packages_are_imported_without_a_home(tmp_path: Path) -> None:
    """Whatever the account: the variables of root in a container with an arbitrary user id."""
    program = (
        "import pwd\ndef unknown(uid): raise KeyError(uid)\npwd.getpwuid = unknown\n"
        "import flows.night, flows.page.charts, deployments.supervisor.worker, nirflow.cli\n"
        "import os; print(os.environ['HOME'])"
    )
    environment = {
        n: v for n, v in os.environ.items() if n not in ("HOME", "PREFECT_HOME") and "XDG" not in n
    }
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        env={**environment, "NIRFLOW_DATA_DIR": str(tmp_path / "data")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'data' / 'home'}\n", "")

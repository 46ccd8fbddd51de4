"""Folders that ``nirflow up`` named are kept, give way to those of the settings, and can be forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.settings.all_settings import Settings
from deployments.settings.remembered import file_of, forget, remember, with_remembered


def test_folders_are_remembered_replaced_and_forgotten(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    assert with_remembered(settings) is settings
    for folders in ((tmp_path / "a", tmp_path / "b"), (tmp_path / "c",)):
        remember(settings, folders)
        assert with_remembered(settings).watch.folders == folders
    assert file_of(settings).parent.stat().st_mode & 0o077 == 0
    forget(settings)
    forget(settings)
    assert with_remembered(settings).watch.folders == ()


def test_folders_of_the_settings_take_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(Settings(data_dir=tmp_path), (tmp_path / "a",))
    monkeypatch.setenv("NIRFLOW_WATCH_FOLDERS", json.dumps([str(tmp_path / "b")]))
    assert with_remembered(Settings(data_dir=tmp_path)).watch.folders == (tmp_path / "b",)


@pytest.mark.parametrize("content", [b'{"folders": 3}', b"", b"\xff", b'{"other": []}'])
def test_a_damaged_file_is_named_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    settings = Settings(data_dir=tmp_path)
    remember(settings, (tmp_path / "a",))
    file_of(settings).write_bytes(content)
    assert with_remembered(settings).watch.folders == ()
    assert f"cannot be read from {file_of(settings)} (it is damaged)" in caplog.text

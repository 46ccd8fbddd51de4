"""Settings from secret files: which files, their precedence, and that they are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib_store.model.settings import StoreSettings, WrongSettingsError, secret_files
from deployments.settings.all_settings import Settings, describe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of secrets."""
    monkeypatch.setenv("NIRFLOW_SECRETS_DIR", str(tmp_path))
    return tmp_path


def test_a_file_is_a_variable_in_lower_case_even_in_a_section(folder: Path) -> None:
    (folder / "nirflow_database_url").write_text("postgresql://u:p@h/d\n")
    (folder / "nirflow_server_auth").write_text("u:a_b c\n")
    (folder / "nirflow_server_database_url").write_text("postgresql://v:p@h/prefect\n")
    (folder / "nirflow_notify_email_to").write_text('["a@b"]')
    settings = Settings()
    assert settings.database_url is not None
    assert settings.server.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://u:p@h/d"
    assert settings.server.database_url.get_secret_value() == "postgresql://v:p@h/prefect"
    assert settings.server.auth_string == "u:a_b c"
    assert settings.notify.email_to == ("a@b",)
    assert StoreSettings().database_url == settings.database_url


def test_a_variable_overrides_a_secret_file_and_that_the_settings_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = folder / "site.toml"
    site.write_text('[server]\nauth = "toml:x"\nport = 1\nlog_level = "INFO"\n[notify]\nsmtp_user = "toml"\n')
    monkeypatch.setenv("NIRFLOW_CONFIG", str(site))
    monkeypatch.setenv("NIRFLOW_SERVER_PORT", "2")
    for name, text in {"server_auth": "file:x", "server_port": "3", "notify_smtp_password": "p"}.items():
        (folder / f"nirflow_{name}").write_text(text)
    settings = Settings()
    assert (settings.server.auth_string, settings.server.port) == ("file:x", 2)
    assert (settings.server.log_level, settings.notify.smtp_user) == ("INFO", "toml")
    sources = {one.name: one.source for one in describe(settings)}
    assert sources["server.auth"] == str(folder / "nirflow_server_auth")
    assert sources["notify.smtp_password"] == str(folder / "nirflow_notify_smtp_password")
    assert sources["server.port"] == "environment"
    assert sources["server.log_level"] == str(site)
    assert sources["server.host"] == "default"


def test_other_files_and_folders_are_not_read(folder: Path) -> None:
    (folder / "postgres_password").write_bytes(b"\xff")
    (folder / "nirflow_folder").mkdir()
    assert secret_files() == {}
    assert Settings().database_url is None


def test_no_secret_is_shown_or_logged(folder: Path) -> None:
    (folder / "nirflow_server_auth").write_text("u:hush")
    settings = Settings()
    assert "hush" not in repr(settings) + "".join(str(one.value) for one in describe(settings))
    (folder / "nirflow_worker_limit").write_text("hush")
    with pytest.raises(WrongSettingsError) as caught:
        Settings()
    assert str(folder / "nirflow_worker_limit") in caught.value.remedy
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [(b" \n", "is empty"), (b"hush\xff", "is not text")])
def test_a_file_without_readable_text_is_an_error(folder: Path, content: bytes, message: str) -> None:
    (folder / "nirflow_database_url").write_bytes(content)
    with pytest.raises(WrongSettingsError, match=rf"nirflow_database_url.* {message}") as caught:
        StoreSettings()
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_folder_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIRFLOW_SECRETS_DIR", str(folder / "none"))
    with pytest.raises(WrongSettingsError, match=r"NIRFLOW_SECRETS_DIR = .*none: No such file"):
        Settings()


def test_the_default_is_the_folder_of_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calib_store.model.settings._SECRETS_DIR", str(tmp_path))
    (tmp_path / "nirflow_server_auth").write_text("u:p")
    assert Settings().server.auth_string == "u:p"
    monkeypatch.setattr("calib_store.model.settings._SECRETS_DIR", str(tmp_path / "none"))
    assert Settings().server.auth is None

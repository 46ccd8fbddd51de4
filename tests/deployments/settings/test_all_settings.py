"""The model of all settings: the source of each, invalid values, and their messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from calib_store.model.settings import StoreSettings, WrongSettingsError, settings_file
from deployments.settings.all_settings import Settings, describe
from deployments.settings.watch_settings import WatchSettings

ROOT = Path(__file__).parents[3]
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write the settings file that the environment names."""

    def write_file(text: str) -> Path:
        path = tmp_path / "site.toml"
        path.write_text(text)
        monkeypatch.setenv("NIRFLOW_CONFIG", str(path))
        return path

    return write_file


def test_arguments_take_precedence_over_variables_and_those_over_the_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write('data_dir = "/file"\nobjects_url = "s3://file"\n[server]\nport = 1\nhost = "localhost"\n')
    monkeypatch.setenv("NIRFLOW_SERVER_PORT", "2")
    monkeypatch.setenv("NIRFLOW_DATA_DIR", "/variable")
    settings = Settings(data_dir=Path("/argument"))
    assert settings.data_dir == Path("/argument")
    assert (settings.server.port, settings.server.host, settings.objects_url) == (2, "localhost", "s3://file")
    assert Settings().data_dir == Path("/variable")


def test_the_store_reads_the_same_file_and_ignores_the_rest(write: Write) -> None:
    write('data_dir = "/file"\n[watch]\nquiet = 15\n')
    assert StoreSettings().data_dir == Path("/file")


def test_a_file_in_the_folder_takes_precedence_over_that_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "config" / "nirflow" / "nirflow.toml"
    own.parent.mkdir(parents=True)
    own.write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert settings_file() == own
    (here / "nirflow.toml").write_text("")
    assert settings_file() == here / "nirflow.toml"


def test_a_missing_file_is_an_error_only_if_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_file() is None
    monkeypatch.setenv("NIRFLOW_CONFIG", str(tmp_path / "gone.toml"))
    with pytest.raises(WrongSettingsError, match=r"NIRFLOW_CONFIG = .*gone.toml: there is no such file"):
        Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nport = 70000\n", r"server.port cannot be 70000: .*65535.*site.toml"),
        ("[server]\nprot = 1\n", r"no setting server.prot.*site.toml"),
        ("colour = 1\n", r"no setting colour"),
        (
            "[nightly]\ncron = 'every day'\n",
            r"nightly.cron cannot be 'every day': .*is not a cron expression",
        ),
        ("[nightly]\ntimezone = 'Mars'\n", r"nightly.timezone cannot be 'Mars'"),
        ("[watch]\nfolders = 3\n", r"watch.folders cannot be 3"),
        ("[watch\n", r"site.toml: "),
        ("[notify]\non = ['sunrise']\n", r"notify.on"),
    ],
)
def test_an_invalid_value_is_reported_with_its_source(write: Write, text: str, message: str) -> None:
    write(text)
    with pytest.raises(WrongSettingsError, match=message):
        Settings()


def test_a_public_url_is_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIRFLOW_SERVER_PUBLIC_URL", "...")
    with pytest.raises(WrongSettingsError, match=r"server\.public_url"):
        Settings()


def test_an_empty_variable_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty path does not mean the current folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for name in ("NIRFLOW_DATA_DIR", "NIRFLOW_WATCH_QUIET", "NIRFLOW_NO_SUCH_SETTING"):
        monkeypatch.setenv(name, "")
    settings = Settings()
    assert settings.data_dir == tmp_path / "nirflow"
    assert settings.watch.quiet == WatchSettings().quiet


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIRFLOW_WORKER_LIMIT", "none")
    with pytest.raises(WrongSettingsError, match=r"worker.limit cannot be 'none'.*NIRFLOW_WORKER_LIMIT"):
        Settings()
    monkeypatch.delenv("NIRFLOW_WORKER_LIMIT")
    monkeypatch.setenv("NIRFLOW_WORKER_LIMITS", "1")
    with pytest.raises(WrongSettingsError, match=r"no setting worker.limits.*variable NIRFLOW_WORKER_LIMITS"):
        Settings()


def test_a_wrong_variable_is_not_looked_for_in_the_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("[worker]\nlimit = 2\n")
    monkeypatch.setenv("NIRFLOW_WATCH_QIET", "3")
    with pytest.raises(
        WrongSettingsError, match=r"no setting watch.qiet.*in the variable NIRFLOW_WATCH_QIET;"
    ):
        Settings()
    monkeypatch.delenv("NIRFLOW_WATCH_QIET")
    monkeypatch.setenv("NIRFLOW_WATCH", '{"qiet": 3}')
    with pytest.raises(WrongSettingsError, match=r"no setting watch.qiet.*in the variable NIRFLOW_WATCH;"):
        Settings()


@pytest.mark.parametrize("name", ["NIRFLOW_DATADIR", "nirflow_databse_url", "NIRFLOW_WACTH_QUIET"])
def test_a_misspelt_variable_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "3")
    with pytest.raises(WrongSettingsError, match=rf"no setting .*in the variable {name};"):
        Settings()


def test_a_misspelt_secret_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nirflow_databse_url").write_text("postgresql://u:hush@h/d")
    monkeypatch.setenv("NIRFLOW_SECRETS_DIR", str(tmp_path))
    with pytest.raises(
        WrongSettingsError, match=r"no setting databse_url.*in .*/nirflow_databse_url;"
    ) as caught:
        Settings()
    assert "hush" not in str(caught.value)


def test_what_compose_reads_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    read = re.findall(r"\$\{(NIRFLOW_\w+)", (ROOT / "docker-compose.yml").read_text())
    assert {"NIRFLOW_RAW_DIR", "NIRFLOW_WORKERS"} < set(read)
    for name in read:
        monkeypatch.setenv(name, "1")
    Settings()


def test_a_list_in_a_variable_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIRFLOW_WATCH_FOLDERS", '["/a", "/b"]')
    assert Settings().watch.folders == (Path("/a"), Path("/b"))
    monkeypatch.setenv("NIRFLOW_WATCH_FOLDERS", "/a")
    with pytest.raises(WrongSettingsError, match=r"(?s)is not valid JSON.*NIRFLOW_WATCH_FOLDERS"):
        Settings()


def test_every_setting_has_a_description_and_a_source(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("[watch]\nquiet = 15\n[server]\nport = 1\n")
    monkeypatch.setenv("NIRFLOW_SERVER_PORT", "2")
    described = {one.name: one for one in describe(Settings())}
    assert (described["watch.quiet"].value, described["watch.quiet"].source) == (15, str(file))
    assert (described["server.port"].value, described["server.port"].source) == (2, "environment")
    assert (described["watch.settle"].source, described["watch.settle"].variable) == (
        "default",
        "NIRFLOW_WATCH_SETTLE",
    )
    assert not [name for name, one in described.items() if not one.description]


def test_a_table_in_a_variable_is_the_source_of_its_fields(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("[watch]\nquiet = 15\nsettle = 1\n")
    monkeypatch.setenv("nirflow_watch", '{"quiet": 20}')
    described = {one.name: one for one in describe(Settings())}
    assert (described["watch.quiet"].value, described["watch.quiet"].source) == (20, "environment")
    assert (described["watch.settle"].value, described["watch.settle"].source) == (1, str(file))


def test_no_secret_is_shown(write: Write) -> None:
    write(
        'database_url = "postgresql://u:hush@h/d"\n[server]\nauth = "u:hush"\n'
        '[notify]\nwebhook = "https://h/hush"\nsmtp_password = "hush"\n'
    )
    settings = Settings()
    assert "hush" not in repr(settings) + "".join(str(one.value) for one in describe(settings))
    write('[server]\nauth = 3\ndatabase_url = ["hush"]\n')
    with pytest.raises(WrongSettingsError) as caught:
        Settings()
    assert "hush" not in str(caught.value)


def test_watched_folders_mean_the_same_in_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts work in folders of their own, and a service may have another home than the shell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "nirflow.toml").write_text('[watch]\nfolders = ["raw", "~/more", "/data/raw"]\n')
    folders = Settings().watch.folders
    assert folders == (tmp_path / "raw", tmp_path / "home" / "more", Path("/data/raw"))


@pytest.mark.parametrize(
    "text",
    [
        'server = "u:hush"\n',
        'notify = ["https://h/hush"]\n',
        '[worker]\ndask = ["tcp://u:hush@h"]\n',
        '[server]\nport = "postgresql://u:hush@h/d"\n',
        '[notify]\nsmtp_password = ["hush"]\n',
        'database_url = ["hush"]\n',
    ],
)
def test_no_secret_is_shown_of_a_value_in_the_wrong_place(write: Write, text: str) -> None:
    write(text)
    with pytest.raises(WrongSettingsError) as caught:
        Settings()
    assert "hush" not in str(caught.value)


def test_addresses_are_shown_without_their_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIRFLOW_OBJECTS_URL", "s3://key:hush@bucket/x?token=hush")
    monkeypatch.setenv("NIRFLOW_WORKER_DASK", "tls://u:hush@dask:8786")
    monkeypatch.setenv("NIRFLOW_SERVER_PUBLIC_URL", "https://u:hush@nights.example")
    shown = {one.name: one.value for one in describe(Settings())}
    assert shown["objects_url"] == "s3://key:***@bucket/x?token=***"
    assert shown["worker.dask"] == "tls://u:***@dask:8786"
    assert shown["server.public_url"] == "https://u:***@nights.example"


def test_a_server_that_does_not_respond_is_reported_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from deployments.prefect_api.rest import Rest, RestError
    from deployments.prefect_server.server import ServerError, ensure_server

    url = "http://u:hush@127.0.0.1:1/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(ServerError, match=r"http://u:\*\*\*@127.0.0.1:1/api does not respond") as caught:
        ensure_server(tmp_path)
    assert "hush" not in str(caught.value)
    with pytest.raises(RestError) as refused:
        Rest(url, None).post("/x", {})
    assert "hush" not in str(refused.value)

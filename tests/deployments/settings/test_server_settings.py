"""The environments that determine which server Prefect uses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.settings.server_settings import (
    NAMES,
    ServerAddress,
    ServerSettings,
    base_url,
    client_environment,
    server_environment,
    strays,
    unusable_proxies,
)

HOME = Path("/data/prefect")
OURS = ServerAddress("http://127.0.0.1:4210/api", "http://127.0.0.1:4210", pid=1, started=False, home=HOME)
THEIRS = ServerAddress("https://prefect.example/api", "https://prefect.example", None, False, None)


def server(base: dict[str, str], **settings: object) -> dict[str, str]:
    return server_environment(
        ServerSettings(**settings), home=HOME, port=4321, database_url="postgresql+asyncpg://db", base=base
    )


def test_a_server_does_not_inherit_a_clients_prefect_settings() -> None:
    users = {
        "PREFECT_API_URL": "https://elsewhere/api",
        "PREFECT_API_KEY": "pnu_secret",
        "PREFECT_PROFILE": "cloud",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_HOME": "/home/u/.prefect",
        "PATH": "/bin",
    }
    environment = server(users)
    assert environment["PATH"] == "/bin"
    assert environment["PREFECT_HOME"] == str(HOME)
    assert not {"PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"} & set(environment)
    assert "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL" not in environment


def test_no_setting_moves_the_api_or_the_ui_out_of_the_guard() -> None:
    environment = server({"PREFECT_SERVER_API_BASE_PATH": "/x", "PREFECT_SERVER_UI_SERVE_BASE": "/y"})
    assert not {"PREFECT_SERVER_API_BASE_PATH", "PREFECT_SERVER_UI_SERVE_BASE"} & set(environment)


def test_variables_of_the_users_own_prefect_are_strays() -> None:
    known = {"PREFECT_PROFILE", "PREFECT_CLIENT_CUSTOM_HEADERS", "PREFECT_API_AUTH_STRING"}
    kept = {"PREFECT_SERVER_API_AUTH_STRING", "PREFECT__FLOW_RUN_ID", "PATH", "NIRFLOW_DATA_DIR"}
    assert strays(dict.fromkeys(known | kept, "x")) == known


def test_server_settings_of_the_user_apply_except_for_place_and_privacy() -> None:
    environment = server(
        {
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "7",
            "PREFECT_SERVER_API_PORT": "4200",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "true",
        }
    )
    assert environment["PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE"] == "7"
    assert environment["PREFECT_SERVER_API_PORT"] == "4321"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["PREFECT_SERVER_UI_API_URL"] == "/api"


def test_everything_we_set_is_a_setting_that_prefect_knows() -> None:
    """A misspelt name would be ignored silently."""
    from prefect.settings import get_current_settings

    known = set(get_current_settings().to_environment_variables(include_aliases=True))
    special = {"DO_NOT_TRACK", "NO_PROXY", "no_proxy", "PREFECT__SERVER_FINAL", "PYTHONSAFEPATH", NAMES}
    special |= {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"}  # a path into Prefect's logging.yml
    nullable = {"PREFECT_API_URL", "PREFECT_UI_URL", "PREFECT_SERVER_UI_API_URL"}
    nullable |= {"PREFECT_SERVER_UI_STATIC_DIRECTORY", "PREFECT_SERVER_DATABASE_CONNECTION_URL"}
    assert set(server({})) - special - nullable <= known
    assert set(client_environment(OURS, {})) - special - nullable <= known


def test_a_client_of_our_server_ignores_the_profile_and_proxy_of_the_user() -> None:
    environment = client_environment(OURS, {"NO_PROXY": "intra.net"})
    assert environment["PREFECT_API_URL"] == OURS.api_url
    assert environment["PREFECT_HOME"] == str(HOME)
    assert environment["NO_PROXY"] == environment["no_proxy"] == "intra.net,127.0.0.1,localhost,::1"
    assert client_environment(OURS, environment)["NO_PROXY"] == environment["NO_PROXY"]
    assert environment["DO_NOT_TRACK"] == "1"
    assert "imaging" in environment["PREFECT_LOGGING_EXTRA_LOGGERS"].split(",")


def test_a_client_of_a_named_server_keeps_the_users_profile() -> None:
    environment = client_environment(THEIRS, {})
    assert environment["PREFECT_API_URL"] == THEIRS.api_url
    assert not {"PREFECT_HOME", "NO_PROXY", "no_proxy"} & set(environment)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("localhost", "http://127.0.0.1:80"),
        ("mko.example", "http://mko.example:80"),
    ],
)
def test_base_url_is_reachable_from_here(host: str, url: str) -> None:
    assert base_url(host, 80) == url


def test_a_password_is_passed_only_to_server_and_clients() -> None:
    environment = server({}, auth="ana:hush")
    assert (
        environment["PREFECT_SERVER_API_AUTH_STRING"] == environment["PREFECT_API_AUTH_STRING"] == "ana:hush"
    )
    assert "hush" not in repr(ServerSettings(auth="ana:hush"))
    address = ServerAddress("http://h/api", "http://h", 1, False, HOME, auth="ana:hush")
    assert client_environment(address, {})["PREFECT_API_AUTH_STRING"] == "ana:hush"
    assert "hush" not in repr(address)
    assert "PREFECT_API_AUTH_STRING" not in client_environment(OURS, {})


def test_prefects_own_variable_names_the_password_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ServerSettings().auth_string is None
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "ana:theirs")
    assert ServerSettings().auth_string == "ana:theirs"
    assert ServerSettings(auth="ana:ours").auth_string == "ana:ours"


def test_only_the_uis_own_origin_may_use_the_api() -> None:
    assert server({})["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4321"
    outside = server({}, public_url="https://night.example/")
    assert outside["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "https://night.example"
    assert outside["PREFECT_UI_URL"] == "https://night.example"


@pytest.mark.parametrize("name", ["server", "nights.example.org", "10.0.0.7", "fd00::7"])
def test_a_further_name_is_passed_to_the_server(name: str) -> None:
    assert json.loads(server({}, names=(name,))[NAMES]) == [name]


@pytest.mark.parametrize("name", ["", "server:4210", "http://server", "server/api", "*", "a b"])
def test_an_invalid_host_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        ServerSettings(names=(name,))


def test_a_connected_process_has_no_strays_and_gets_them_back(tmp_path: Path) -> None:
    program = """
import os
from pathlib import Path
from deployments.prefect_server.client import connected
from deployments.settings.server_settings import ServerAddress
ours = ServerAddress("http://h/api", "http://h", 1, False, Path("/tmp/home"), auth="u:p")
theirs = ServerAddress("http://h/api", "http://h", None, False, None)
with connected(ours):
    assert os.environ["PREFECT_API_AUTH_STRING"] == "u:p"
    assert not {"PREFECT_CLIENT_CUSTOM_HEADERS", "PREFECT_API_KEY"} & set(os.environ)
for _ in range(2):
    assert (os.environ["PREFECT_API_KEY"], os.environ["PREFECT_API_AUTH_STRING"]) == ("k", "x:y")
    with connected(theirs):
        assert os.environ["PREFECT_API_KEY"] == "k"
"""
    stray = {"PREFECT_API_KEY": "k", "PREFECT_CLIENT_CUSTOM_HEADERS": "{}", "PREFECT_API_AUTH_STRING": "x:y"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | stray, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("proxy", "refused"),
    [
        ("socks5h://p:1", True),
        ("socks4://p:1", True),
        ("http://p:1", False),
        ("https://p:1", False),
        ("p:1", False),
    ],
)
def test_proxies_without_a_package_are_emptied_for_runs(proxy: str, refused: bool) -> None:
    base = {"ALL_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": "x", "PATH": "/bin"}
    assert unusable_proxies(base) == ({"ALL_PROXY": "", "https_proxy": ""} if refused else {})


def test_the_server_uses_no_proxy_for_itself() -> None:
    assert server({"no_proxy": "intra.net"})["NO_PROXY"] == "intra.net,127.0.0.1,localhost,::1"

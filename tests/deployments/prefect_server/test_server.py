"""The permanent server: one for all clients, found again, replaced when it has ended.

A start takes three seconds, so the tests of this module share one data folder and its server; each test first creates
what it needs, and can be run alone.
"""

import base64
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr
from waiting import PATIENCE, wait_until

from calib_store.server import postgres
from deployments import processes
from deployments.prefect_server import ports
from deployments.prefect_server.server import ServerError, ensure_server, server_status, stop_server
from deployments.settings.server_settings import ServerSettings

# Below the range that the kernel takes for outgoing connections, so that the port stays free between two
# servers; not the default one, where the user's own server may be.
SETTINGS = ServerSettings(port=random.randint(20_000, 30_000))
ASK = """
import sys
from pathlib import Path
from deployments.prefect_server.server import ensure_server
address = ensure_server(Path(sys.argv[1]))
print(address.pid, address.started)
"""


@pytest.fixture(autouse=True)
def _no_named_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nirflow-", ignore_cleanup_errors=True) as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path
        stop_server(path)
        postgres.stop(path)


def state_of(data_dir: Path) -> dict[str, object]:
    return json.loads((data_dir / "prefect" / "server.json").read_text())


def test_four_processes_at_once_start_one_server_that_outlives_them(data_dir: Path) -> None:
    environment = os.environ | {"NIRFLOW_SERVER_PORT": str(SETTINGS.port)}
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", ASK, str(data_dir)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=PATIENCE)[0].split() for process in asking]
    assert {process.returncode for process in asking} == {0}
    assert len({pid for pid, _ in answers}) == 1
    assert sorted(started for _, started in answers) == ["False", "False", "False", "True"]
    status = server_status(data_dir)
    assert (status.running, status.ready, str(status.pid)) == (True, True, answers[0][0])


def test_a_second_call_gets_the_server_of_the_first_and_starts_no_process(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure_server(data_dir, settings=SETTINGS)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    second = ensure_server(data_dir, settings=SETTINGS)
    assert (second.pid, second.api_url, second.started) == (first.pid, first.api_url, False)


def test_finding_the_server_does_not_import_prefect(data_dir: Path) -> None:
    ensure_server(data_dir, settings=SETTINGS)
    program = ASK + "assert not any(name.split('.')[0] == 'prefect' for name in sys.modules)"
    subprocess.run([sys.executable, "-c", program, str(data_dir)], check=True, timeout=PATIENCE)


def test_the_api_and_the_ui_respond_and_the_ui_calls_its_own_api(data_dir: Path) -> None:
    address = ensure_server(data_dir, settings=SETTINGS)
    with urllib.request.urlopen(f"{address.ui_url}/ui-settings", timeout=PATIENCE) as answer:
        assert json.load(answer)["api_url"] == "/api"
    with urllib.request.urlopen(f"{address.ui_url}/v2/", timeout=PATIENCE) as answer:
        assert b"<html" in answer.read()
    assert (data_dir / "prefect" / "ui").is_dir()  # not inside the installed package


#: An attempt of another account to listen at a port.
SQUAT = (
    "import os, socket, sys\nos.setgid(20002); os.setuid(20002)\n"
    "s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)\n"
    "for option in sys.argv[3:]: s.setsockopt(socket.SOL_SOCKET, int(option), 1)\n"
    "s.bind((sys.argv[1], int(sys.argv[2])))"
)


def assert_kept(address: str, port: int) -> None:
    """Assert that no other account can listen there, with any options."""
    for options in (
        [],
        [socket.SO_REUSEADDR],
        [socket.SO_REUSEPORT],
        [socket.SO_REUSEADDR, socket.SO_REUSEPORT],
    ):
        tried = subprocess.run(
            [sys.executable, "-c", SQUAT, address, str(port), *map(str, options)],
            capture_output=True,
            text=True,
        )
        assert "Address already in use" in tried.stderr, (address, options, tried)


def test_after_kill_9_no_other_account_gets_the_port_before_the_new_server(data_dir: Path) -> None:
    """While a client is running."""
    first = ensure_server(data_dir, settings=SETTINGS)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not server_status(data_dir).running)
    if os.geteuid() == 0:  # only root can be another account
        port = int(str(state_of(data_dir)["port"]))
        for address in ("127.0.0.1", "::1"):
            assert_kept(address, port)
    second = ensure_server(data_dir, settings=SETTINGS)
    assert second.started
    assert second.pid != first.pid
    assert second.api_url == first.api_url


def test_a_database_that_went_down_is_restarted_under_the_same_server(data_dir: Path) -> None:
    first = ensure_server(data_dir, settings=SETTINGS)
    postgres.stop(data_dir)
    assert server_status(data_dir).running
    assert not server_status(data_dir).ready
    second = ensure_server(data_dir, settings=SETTINGS)
    assert (second.pid, second.started) == (first.pid, False)
    assert server_status(data_dir).ready


def test_stop_then_a_strangers_pid_and_a_taken_port_in_the_state_file(data_dir: Path) -> None:
    first = ensure_server(data_dir, settings=SETTINGS)
    assert first.pid is not None
    assert stop_server(data_dir, settings=ServerSettings(stop_grace=2))
    assert not server_status(data_dir).running
    assert not stop_server(data_dir)

    state = state_of(data_dir)
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections linger here
        squatter.bind((str(state["host"]), int(str(state["port"]))))
        squatter.listen()
        # Another process has got our server's process id since.
        (data_dir / "prefect" / "server.json").write_text(json.dumps(state | {"pid": stranger.pid}))
        assert not server_status(data_dir).running
        assert not stop_server(data_dir)
        assert stranger.poll() is None
        second = ensure_server(data_dir, settings=SETTINGS)
        assert second.started
        assert second.pid != stranger.pid
        assert second.api_url != first.api_url
        assert second.api_url == ensure_server(data_dir, settings=SETTINGS).api_url
    assert stranger.poll() is None
    stranger.communicate(b"\n", timeout=PATIENCE)


def test_only_with_renew_a_server_with_other_settings_is_replaced(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nirflow up` after `nirflow reduce`: notifications, a password, another address."""
    monkeypatch.chdir(tmp_path)
    first = ensure_server(data_dir, settings=SETTINGS)
    assert ensure_server(data_dir, settings=SETTINGS, renew=True).pid == first.pid
    assert first.auth == (data_dir / "prefect" / "password").read_text().strip()
    loud = SETTINGS.model_copy(update={"auth": SecretStr("observer:secret")})
    assert ensure_server(data_dir, settings=loud).pid == first.pid
    second = ensure_server(data_dir, settings=loud, renew=True)
    assert second.started
    assert processes.birth(first.pid or 0) is None
    assert "secret" not in json.dumps(state_of(data_dir))
    (tmp_path / "nirflow.toml").write_text('[notify]\nemail_to = ["ana@example.org"]\n')
    third = ensure_server(data_dir, settings=loud, renew=True)
    assert third.pid != second.pid
    environment = Path(f"/proc/{third.pid}/environ").read_bytes().split(b"\0")
    assert f"NIRFLOW_CONFIG={tmp_path / 'nirflow.toml'}".encode() in environment


def test_a_port_that_was_taken_is_tried_again_by_the_next_up(data_dir: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = ServerSettings(port=other.getsockname()[1])
        first = ensure_server(data_dir, settings=settings)
        assert f":{settings.port}/" not in first.api_url
    stop_server(data_dir, settings=settings)
    assert f":{settings.port}/" in ensure_server(data_dir, settings=settings, renew=True).api_url


def test_a_damaged_state_file_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "server.json").write_text('{"pid": 1')
    assert not server_status(tmp_path).running
    assert not stop_server(tmp_path)
    assert "damaged" in caplog.text


def test_the_status_of_a_server_that_never_existed_creates_nothing(tmp_path: Path) -> None:
    assert not server_status(tmp_path).running
    assert not stop_server(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_start_reports_why(tmp_path: Path) -> None:
    settings = ServerSettings(port=0, database_url="postgresql://nobody:hush@127.0.0.1:9/none")
    with pytest.raises(ServerError, match="ended while starting") as caught:
        ensure_server(tmp_path, settings=settings, timeout=PATIENCE)
    assert "prefect-server.log" in caught.value.remedy
    assert "ConnectionRefusedError" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert not server_status(tmp_path).running


def test_a_database_url_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="not a PostgreSQL URL"):
        ensure_server(tmp_path, settings=ServerSettings(port=0, database_url="sqlite:///runs.db"))


def test_a_server_without_a_configured_password_creates_and_keeps_one(data_dir: Path) -> None:
    first = ensure_server(data_dir, settings=SETTINGS)
    assert first.auth is not None
    assert re.fullmatch(r"nirflow:[\w-]{32}", first.auth)
    assert (status_of(first.api_url), status_of(first.api_url, first.auth)) == (401, 200)
    assert status_of(first.api_url, "nirflow:wrong") == 401
    stop_server(data_dir, settings=SETTINGS)
    assert ensure_server(data_dir, settings=SETTINGS).auth == first.auth
    home = data_dir / "prefect"
    modes = {name: (home / name).stat().st_mode & 0o777 for name in (".", "password", "server.json")}
    assert modes == {".": 0o700, "password": 0o600, "server.json": 0o600}
    assert first.auth not in (data_dir / "logs" / "prefect-server.log").read_text()


def status_of(api_url: str, auth: str | None = None) -> int:
    """Return the status of the server's answer to a query about flows."""
    headers = {"Content-Type": "application/json"}
    if auth:
        headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
    request = urllib.request.Request(f"{api_url}/flows/filter", b"{}", headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_server_without_a_password_from_an_earlier_nirflow_is_restarted_by_up(
    data_dir: Path,
) -> None:
    first = ensure_server(data_dir, settings=SETTINGS)
    state = {name: value for name, value in state_of(data_dir).items() if name != "closed"}
    (data_dir / "prefect" / "server.json").write_text(json.dumps(state | {"setup": "old"}))
    (data_dir / "prefect").chmod(0o755)
    # Its clients may continue: they know no password.
    assert ensure_server(data_dir, settings=SETTINGS).auth is None
    second = ensure_server(data_dir, settings=SETTINGS, renew=True)
    assert second.started
    assert (second.pid != first.pid, second.auth) == (True, first.auth)
    assert (data_dir / "prefect").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
def test_a_server_without_clients_keeps_its_port_at_both_addresses_of_localhost(
    data_dir: Path,
) -> None:
    ensure_server(data_dir, settings=SETTINGS)
    port = int(str(state_of(data_dir)["port"]))
    ports.release("127.0.0.1", port)
    for address in ("127.0.0.1", "::1"):
        assert_kept(address, port)


def test_a_named_server_that_is_down_is_an_error_and_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(ServerError, match="PREFECT_API_URL") as caught:
        ensure_server(tmp_path)
    assert "unset PREFECT_API_URL" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_named_server_that_responds_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Health) as named:
        threading.Thread(target=named.serve_forever, daemon=True).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{named.server_port}/api/")
        monkeypatch.setenv("NIRFLOW_SERVER_AUTH", "observer:secret")
        address = ensure_server(tmp_path)
        named.shutdown()
    assert address.api_url == f"http://127.0.0.1:{named.server_port}/api"
    assert address.ui_url == f"http://127.0.0.1:{named.server_port}"
    assert (address.pid, address.home, address.started) == (None, None, False)
    assert address.auth == "observer:secret"
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_process_is_killed_and_replaced(data_dir: Path) -> None:
    """A server that hangs neither responds nor ends: it must not block every command forever."""
    first = ensure_server(data_dir, settings=SETTINGS)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGSTOP)
    assert stop_server(data_dir, settings=ServerSettings(stop_grace=0.2))
    assert not server_status(data_dir).running

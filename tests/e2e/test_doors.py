"""Pages of other origins in a real browser, before a real server: they read nothing, change nothing and run nothing."""

from __future__ import annotations

import base64
import json
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser import Page, browser_page
from waiting import PATIENCE

from calib_store.server import postgres
from deployments.access import credentials
from deployments.access.login import PAGE, link
from deployments.access.policy import Role
from deployments.prefect_api.rest import Rest
from deployments.prefect_server.server import ensure_server, stop_server
from deployments.settings.server_settings import ServerAddress, ServerSettings

pytestmark = pytest.mark.long

#: What a foreign page tries: a POST that needs no permission of the server, and every WebSocket. `AUTH` is
#: the password, as if the page had guessed it: its origin is reason enough to refuse it.
_ATTACK = """
(async () => {
  const api = 'SERVER/api', reported = {};
  const body = new Blob([JSON.stringify({name: 'from-elsewhere'})], {type: ''});
  for (const mode of ['no-cors', 'cors']) {
    try { reported[`post ${mode}`] = (await fetch(`${api}/flows/`, {method: 'POST', mode, body})).status; }
    catch (error) { reported[`post ${mode}`] = 'refused'; }
  }
  for (const path of ['/flows/filter', '/deployments/filter']) {
    try { reported[path] = (await fetch(api + path, {
      method: 'POST', body: '{}',
      headers: {'Content-Type': 'application/json', 'Authorization': 'Basic ' + btoa('AUTH')},
    })).status; }
    catch (error) { reported[path] = 'refused'; }
  }
  const open = path => new Promise(done => {
    const socket = new WebSocket(api.replace('http', 'ws') + path, ['prefect']);
    socket.onopen = () => done('open');
    socket.onerror = () => done('refused');
  });
  for (const path of ['/events/in', '/events/out', '/logs/out', '/work_pools/nirflow/workers/connect'])
    reported[path] = await open(path);
  return JSON.stringify(reported);
})()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerAddress]:
    """Yield a separate server with default settings."""
    with tempfile.TemporaryDirectory(prefix="nirflow-doors-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield ensure_server(folder, settings=ServerSettings(port=0))
        stop_server(folder)
        postgres.stop(folder)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """Yield an address of this machine with a foreign page."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!DOCTYPE html><title>theirs</title><body>theirs</body>")

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{pages.server_address[1]}"
        pages.shutdown()


def attack(page: Page, target: str, auth: str) -> dict[str, Any]:
    """Return what a page achieves by the attack."""
    text = _ATTACK.replace("SERVER", target).replace("AUTH", auth)
    answer = page.ask("Runtime.evaluate", expression=text, awaitPromise=True, returnByValue=True)
    reported: dict[str, Any] = json.loads(answer["result"]["value"])
    return reported


@pytest.mark.parametrize("as_seen", ["127.0.0.1", "localhost"])
def test_a_foreign_page_gets_nothing(
    server: ServerAddress, elsewhere: str, tmp_path: Path, as_seen: str
) -> None:
    assert server.auth is not None
    port = urlsplit(server.ui_url).port
    with browser_page(tmp_path / "profile") as page:
        page.open(f"http://{elsewhere}/")
        page.wait_for("document.title == 'theirs'")
        reported = attack(page, f"http://{as_seen}:{port}", server.auth)
    assert reported.pop("post no-cors") == 0  # a response that the page may not read
    assert set(reported.values()) == {"refused"}, reported
    assert Rest(server.api_url, server.auth).post("/flows/filter", {}) == []


def test_a_name_that_is_bound_to_this_machine_gets_nothing(server: ServerAddress, tmp_path: Path) -> None:
    assert server.auth is not None
    port = urlsplit(server.ui_url).port
    with browser_page(tmp_path / "profile", "--host-resolver-rules=MAP rebind.example 127.0.0.1") as page:
        page.open(f"http://rebind.example:{port}/")
        page.wait_for("document.body && document.body.innerText.includes('Host: rebind.example')")
        assert "server.names" in page.text()
        reported = attack(page, f"http://rebind.example:{port}", server.auth)
    sockets = {name: what for name, what in reported.items() if what == "refused"}
    assert len(sockets) == 4
    assert {what for name, what in reported.items() if name not in sockets} == {421}, reported
    assert Rest(server.api_url, server.auth).post("/flows/filter", {}) == []


def test_a_link_from_elsewhere_opens_the_ui(server: ServerAddress, elsewhere: str, tmp_path: Path) -> None:
    with browser_page(tmp_path / "profile") as page:
        page.open(f"http://{elsewhere}/")
        page.wait_for("document.title == 'theirs'")
        page.evaluate(
            f"document.body.innerHTML = '<a href=\"{server.ui_url}/runs\">run</a>'; document.links[0].click()"
        )
        page.wait_for(f"location.pathname == '{PAGE}'")
        page.evaluate(f"location.replace('{link(server.ui_url, server.auth or '')}')")
        page.wait_for("location.pathname == '/runs'")


@pytest.mark.parametrize(("name", "path"), [("127.0.0.1", "/dashboard"), ("localhost", "/v2/dashboard")])
def test_the_first_minute_in_the_ui(server: ServerAddress, tmp_path: Path, name: str, path: str) -> None:
    """Without a password the login page appears at once; its link and form lead to the requested page."""
    assert server.auth is not None
    ui = server.ui_url.replace("127.0.0.1", name)
    user, _, password = server.auth.partition(":")
    with browser_page(tmp_path / "profile") as page:
        page.open(f"{ui}{path}")
        page.wait_for(f"location.pathname == '{PAGE}' && document.readyState == 'complete'")
        assert (
            page.evaluate("location.origin") == server.ui_url
        )  # the browser stores nothing for a name with two addresses
        fill = (
            f"document.getElementById('user').value = '{user}'; "
            "document.getElementById('password').value = '{}'; document.getElementById('enter').click()"
        )
        page.evaluate(fill.format("wrong"))
        page.wait_for("document.getElementById('problem').textContent.includes('does not accept')")
        page.evaluate(fill.format(password))
        page.wait_for(f"location.pathname == '{path}' && document.body.innerText.includes('Dashboard')")
        page.evaluate("localStorage.setItem('prefect-password', btoa('nirflow:outdated'))")
        page.open(f"{ui}{path}")
        page.wait_for(f"location.pathname == '{PAGE}'")
        page.open(link(ui, server.auth))
        page.wait_for(f"location.pathname == '{path}' && document.body.innerText.includes('Dashboard')")
        assert page.evaluate("location.hash") == ""
        assert page.evaluate("document.body.innerText.includes('Oops')") is False
        assert page.errors == []
        assert not [url for url in page.requested if password in url]


def test_a_link_opened_by_a_page_does_not_replace_a_login_without_confirmation(
    server: ServerAddress, elsewhere: str, tmp_path: Path
) -> None:
    """Viewers know the viewer's password: a page of one of them could replace the owner's login."""
    owner = server.auth
    assert owner is not None
    assert server.home is not None
    viewer = credentials.ensure(server.home.parent, ServerSettings(), Role.VIEWER)
    encoded = {auth: base64.b64encode(auth.encode()).decode() for auth in (owner, viewer)}
    owners = encoded[owner]
    stored = "localStorage.getItem('prefect-password')"
    with browser_page(tmp_path / "profile") as page:
        page.open(link(server.ui_url, owner))
        page.wait_for("location.pathname == '/dashboard'")
        page.open(link(server.ui_url, owner))  # the same again: no question
        page.wait_for("location.pathname == '/dashboard'")

        def opened_by_a_page() -> None:
            page.open(f"http://{elsewhere}/")
            page.wait_for("document.title == 'theirs'")
            page.evaluate(f"location.href = '{link(server.ui_url, viewer)}'")
            page.wait_for(
                f"location.pathname == '{PAGE}' && !!document.getElementById('question') "
                "&& !document.getElementById('question').hidden"
            )
            assert page.evaluate(stored) == owners
            assert page.evaluate("document.activeElement.id") == "keep"
            assert page.evaluate("location.hash") == ""
            for name in ("logged in as nirflow.", "log it in as viewer instead"):
                assert name in page.text()

        opened_by_a_page()
        page.evaluate("document.getElementById('keep').click()")
        page.wait_for("location.pathname == '/dashboard'")
        assert page.evaluate(stored) == owners
        opened_by_a_page()
        page.evaluate("document.getElementById('replace').click()")
        page.wait_for("location.pathname == '/dashboard'")
        assert page.evaluate(stored) == encoded[viewer]
        credentials.revoke(server.home.parent, ServerSettings(), Role.VIEWER)
        page.open(link(server.ui_url, owner))  # the stored one is no longer valid: no question
        page.wait_for("location.pathname == '/dashboard'")
        assert page.evaluate(stored) == owners
        assert page.errors == []


def test_logging_in_leads_to_no_other_server(server: ServerAddress, elsewhere: str, tmp_path: Path) -> None:
    assert server.auth is not None
    with browser_page(tmp_path / "profile") as page:
        page.open(f"{server.ui_url}//{elsewhere}/")
        page.wait_for(f"location.pathname == '{PAGE}'")
        assert page.evaluate("sessionStorage.getItem('nirflow-next')") == f"//{elsewhere}/"
        page.open(link(server.ui_url, server.auth))
        page.wait_for("location.pathname == '/dashboard'")
        assert page.evaluate("location.origin") == server.ui_url


def test_the_health_check_of_the_ui_needs_no_password(server: ServerAddress) -> None:
    for path in ("/health", "/ready"):
        with urllib.request.urlopen(f"{server.api_url}{path}", timeout=PATIENCE) as answer:
            assert answer.status == 200

"""The pages of nights and of the store: access to them, and their headers."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from deployments.access.credentials import Credentials, file_of
from deployments.access.policy import Role
from deployments.access.sessions import COOKIE
from deployments.pages.pages import Pages
from imaging.quick_look.frame_figures import FrameFigures, FrameValues, Judged
from imaging.quick_look.night_record import NightRecord, write_record

OWNER, VIEWER = "nirflow:own", "eve:looks"


class StoreOfOne:
    """Pages of a store."""

    def page(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        return 200, f"store {path} {sorted(query.items())}"


class StatusOfOne:
    """A page of a status."""

    def page(self) -> str:
        return "status"


class Site:
    """The pages in front of an application that records its requests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passed: list[str] = []
        nights = folder / "nights" / "2013-11-21"
        nights.mkdir(parents=True)
        (nights / "index.html").write_text("night")
        (nights / "S1_dark.fits").write_bytes(b"pixels")

        async def prefect(scope: Any, receive: Any, send: Any) -> None:
            self.passed.append(scope["path"])

        known = Credentials(OWNER, {Role.VIEWER: VIEWER}, folder)
        self.pages = Pages(prefect, known, folder / "nights", StoreOfOne(), StatusOfOne())  # type: ignore[arg-type]

    def ask(
        self, path: str, method: str = "GET", query: str = "", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Return status, headers and text of an answer."""
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": given,
                 "scheme": "http", "http_version": "1.1"}  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            await asyncio.sleep(0)
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.pages(scope, receive, send))
        if not sent:
            return 0, {}, ""
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, b"".join(one.get("body", b"") for one in sent[1:]).decode()

    def login(self, auth: str = VIEWER, **headers: str) -> str:
        """Begin a session and return its cookie."""
        credential = "Basic " + base64.b64encode(auth.encode()).decode()
        status, headers, _ = self.ask("/nirflow/session", "POST", authorization=credential, **headers)
        assert status == 204
        return headers["set-cookie"]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_browser_without_a_login_is_sent_to_the_login_page(site: Site) -> None:
    for path, query in (
        ("/nights/2013-11-21/", ""),
        ("/store/", "kind=dark&status=certified"),
        ("/nights", ""),
    ):
        status, headers, _ = site.ask(path, query=query, accept="text/html,*/*")
        assert status == 303
        here = path + (f"?{query}" if query else "")
        quoted = here.replace("/", "%2F").replace("?", "%3F").replace("=", "%3D").replace("&", "%26")
        assert headers["location"] == f"/nirflow/login?next={quoted}"
    status, _, text = site.ask("/nights/2013-11-21/S1_dark.fits")
    assert (status, text) == (401, "Log in at /nirflow/login first.\n")


@pytest.mark.parametrize(
    "cookie", ["", f"{COOKIE}=", f"{COOKIE}=x", f"{COOKIE}", "other=1", f'{COOKIE}="\\', "=;;="]
)
def test_a_made_up_cookie_opens_nothing(site: Site, cookie: str) -> None:
    site.login()
    assert site.ask("/nights/2013-11-21/", cookie=cookie)[0] == 401


def test_a_login_opens_the_pages(site: Site) -> None:
    given = site.login()
    assert "; HttpOnly; SameSite=Strict" in given
    assert "Secure" not in given
    cookie = given.partition(";")[0]
    assert site.ask("/nights/2013-11-21/", cookie=cookie)[::2] == (200, "night")
    assert (
        site.ask("/store/products/x", query="a=b", cookie=f"z=1; {cookie}")[2]
        == "store products/x [('a', 'b')]"
    )
    assert site.ask("/nights", cookie=cookie)[1]["location"] == "/nights/"
    assert site.ask("/status/", cookie=cookie)[::2] == (200, "status")
    assert site.ask("/status/x", cookie=cookie)[0] == 404
    status, headers, text = site.ask("/nights/2013-11-21/S1_dark.fits", cookie=cookie)
    assert (status, text, headers["content-type"]) == (200, "pixels", "application/fits")
    assert headers["content-disposition"] == "attachment"
    assert site.ask("/nights/2013-11-21/S1_dark.fits", "HEAD", cookie=cookie)[::2] == (200, "")
    assert site.ask("/nights/2013-11-22/", cookie=cookie)[0] == 404


@pytest.mark.parametrize(
    "other",
    ['{"a"}', "=", ";;", 'a="b', "a b=c", "\xe4=\xf6", f"{COOKIE}=of-another-port", f"{COOKIE}", f"x{COOKIE}=1",
     '"a;b"="c"'],
)  # fmt: skip
def test_cookies_of_other_servers_on_the_host_do_not_interfere(site: Site, other: str) -> None:
    cookie = site.login().partition(";")[0]
    for line in (f"{other}; {cookie}", f"{cookie}; {other}", f"{other};{cookie}"):
        assert site.ask("/store/", cookie=line)[0] == 200
    assert site.ask("/nirflow/session", "DELETE", cookie=f"{other}; {cookie}")[0] == 204
    assert site.ask("/store/", cookie=cookie)[0] == 401


def test_behind_tls_the_cookie_is_sent_only_over_tls(site: Site) -> None:
    assert site.login(origin="https://nights.example").endswith("; Secure")


@pytest.mark.parametrize("path", ["/nights/2013-11-21/", "/store/", "/nirflow/session", "/nights/none.html"])
def test_every_answer_forbids_foreign_scripts_and_content(site: Site, path: str) -> None:
    headers = site.ask(path, cookie=site.login().partition(";")[0])[1]
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["frame-ancestors"] == "'none'"
    of_a_night = {"script-src", "connect-src"} if path == "/nights/2013-11-21/" else set()
    assert {"script-src", "connect-src", "object-src"} & set(rules) == of_a_night
    assert all(rules[name] == "'self'" for name in of_a_night)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get"])
def test_the_pages_are_read_only(site: Site, method: str) -> None:
    cookie = site.login().partition(";")[0]
    assert site.ask("/store/", method, cookie=cookie)[0] == 405
    assert site.ask("/nights/", method, cookie=cookie)[0] == 405


def test_a_session_begins_only_with_a_header(site: Site) -> None:
    """A form or a link of another page can send none."""
    for auth in ("", "Basic x", "Basic " + base64.b64encode(b"eve:wrong").decode()):
        status, headers, _ = site.ask("/nirflow/session", "POST", authorization=auth, cookie="a=b")
        assert (status, headers.get("set-cookie")) == (401, None)
    assert site.ask("/nirflow/session")[0] == 405


def test_a_session_ends_with_its_password_and_when_it_is_ended(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.pages._credentials._given.clear()
    path = file_of(tmp_path, Role.VIEWER)
    path.touch(mode=0o600)
    path.write_text(VIEWER)
    viewer, owner = (site.login(auth).partition(";")[0] for auth in (VIEWER, OWNER))
    assert site.ask("/store/", cookie=viewer)[0] == 200
    path.unlink()
    assert site.ask("/store/", cookie=viewer)[0] == 401
    assert site.ask("/store/", cookie=owner)[0] == 200
    status, headers, _ = site.ask("/nirflow/session", "DELETE", cookie=owner)
    assert (status, headers["set-cookie"].split("; ")[2]) == (204, "Max-Age=0")
    assert site.ask("/store/", cookie=owner)[0] == 401


def test_a_session_ends_after_some_hours(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.access import sessions

    cookie = site.login().partition(";")[0]
    now = sessions.time.monotonic()
    monkeypatch.setattr(sessions.time, "monotonic", lambda: now + sessions.LASTS + 1)
    assert site.ask("/store/", cookie=cookie)[0] == 401


def test_other_requests_are_forwarded_to_the_application(site: Site) -> None:
    paths = ["/", "/api/flows/", "/nightsx", "/stores/", "/nirflow/login", "//nights/", "/Nights/"]
    for path in paths:
        assert site.ask(path, cookie=site.login().partition(";")[0])[0] == 0
    assert site.passed == paths


def test_a_night_that_has_begun_is_followed_before_its_first_run(site: Site) -> None:
    hostile = "<script>alert(1)</script>"
    one = FrameFigures(
        name=f"S1{hostile}.fits", sha256="0" * 64, kind="object", filter="Y", label=hostile, night=date(2013, 11, 22),
        started=datetime(2013, 11, 22, 3, tzinfo=UTC), exposure=60.0, values=FrameValues(seeing=0.7),
        judged={"seeing": Judged(verdict="worse than requested", against=hostile)},
    )  # fmt: skip
    folder = site.folder / "nights"
    written = datetime(2013, 11, 22, 3, 2, tzinfo=UTC)
    write_record(folder, NightRecord(night=one.night, written=written, frames=(one,)))
    (folder / "2013-11-22" / "other.json").write_text("{}")
    cookie = site.login().partition(";")[0]
    assert site.ask("/nights/latest", cookie=cookie)[1]["location"] == "/nights/2013-11-22/#arriving"
    status, headers, page = site.ask("/nights/2013-11-22/", cookie=cookie)
    assert status == 200
    assert "script-src 'self'" in headers["content-security-policy"]
    assert page.count("<script") == 1
    assert '<script src="../arriving.js" defer></script>' in page
    assert "worse than requested" in page
    # A page that a run has written gets its script here too.
    (folder / "2013-11-22" / "index.html").write_text(
        "<p>done</p><!-- nirflow: the server puts the script here -->"
    )
    for path in ("/nights/2013-11-22/", "/nights/2013-11-22/index.html"):
        status, headers, page = site.ask(path, cookie=cookie)
        assert page == '<p>done</p><script src="../arriving.js" defer></script>'
        assert headers["content-length"] == str(len(page))
        assert headers["content-type"].startswith("text/html")
    status, headers, text = site.ask("/nights/2013-11-22/arriving.json", cookie=cookie)
    assert (status, headers["content-type"]) == (200, "application/json")
    row = json.loads(text)["rows"][0]
    assert row[3] == {"text": "0.70", "title": hostile, "tone": "bad"}
    assert site.ask("/nights/2013-11-22/other.json", cookie=cookie)[0] == 404
    status, headers, script = site.ask("/nights/arriving.js", cookie=cookie)
    assert headers["content-type"].startswith("text/javascript")
    assert "innerHTML" not in script
    for path in ("/nights/arriving.js", "/nights/2013-11-22/arriving.json", "/nights/latest"):
        assert site.ask(path)[0] == 401

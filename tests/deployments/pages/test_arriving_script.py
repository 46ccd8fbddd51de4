"""The page of a night in a real browser: its table follows the frames that arrive."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from browser import browser_page
from waiting import wait_until

from deployments.access.credentials import Credentials
from deployments.access.sessions import COOKIE, Sessions
from deployments.pages.pages import Pages
from imaging.quick_look.frame_figures import FrameFigures, FrameValues
from imaging.quick_look.night_record import NightRecord, write_record

pytestmark = pytest.mark.long
NIGHT = date(2013, 11, 22)


class NoStore:
    """Pages of no store."""

    def page(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        return 404, path


def write(folder: Path, *names: str) -> None:
    frames = tuple(
        FrameFigures(
            name=name, sha256=f"{k:064d}", kind="object", night=NIGHT, values=FrameValues(seeing=0.5 + k / 10),
            started=datetime(2013, 11, 22, 3, k, tzinfo=UTC),
        )
        for k, name in enumerate(names)
    )  # fmt: skip
    written = datetime(2013, 11, 22, 4, len(names), tzinfo=UTC)
    write_record(folder, NightRecord(night=NIGHT, written=written, frames=frames))


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, str]]:
    """Serve the pages, and yield their address and the token of a session."""
    known = Credentials("nirflow:own", {}, folder)
    pages = Pages(None, known, folder / "nights", NoStore(), None)  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(pages, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield f"http://127.0.0.1:{port}", token_of(pages)
        finally:
            server.should_exit = True
            thread.join()


def token_of(pages: Pages) -> str:
    sessions: Sessions = vars(pages)["_sessions"]
    from deployments.access.authority import identity_of

    header = b"Basic " + base64.b64encode(b"nirflow:own")
    scope: dict[str, Any] = {"type": "http", "headers": [(b"authorization", header)], "path": "/"}
    identity = identity_of(scope, vars(pages)["_credentials"])
    assert identity is not None
    return sessions.begin(identity)


def test_the_table_follows_the_night_and_loads_nothing_else(tmp_path: Path) -> None:
    nights = tmp_path / "nights"
    write(nights, "S1.fits")
    with served(tmp_path) as (address, token), browser_page(tmp_path / "profile") as page:
        page.ask("Network.enable")
        page.ask("Network.setCookie", name=COOKIE, value=token, url=address)
        page.open(f"{address}/nights/latest")
        page.wait_for("document.body && document.body.innerText.includes('This table follows the night')")
        assert page.evaluate("document.querySelectorAll('#arriving tbody tr').length") == 1
        write(nights, "S1.fits", "<img src=x onerror=alert(1)>.fits")
        page.wait_for("document.querySelectorAll('#arriving tbody tr').length === 2")
        assert "<img src=x onerror=alert(1)>" in page.text()
        # On a narrow screen each figure has the name of its column.
        assert page.evaluate("document.querySelector('#arriving tbody tr').cells[3].dataset.name") == "seeing"
        assert page.evaluate("document.images.length") == 0
        assert page.errors == []
        assert page.forbidden == []
        assert {one.partition("?")[0].rsplit("/", 1)[-1] for one in page.requested} <= {
            "latest", "", "arriving.js", "arriving.json", "favicon.ico",
        }  # fmt: skip

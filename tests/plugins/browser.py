"""A real browser without a window, driven over the Chrome DevTools protocol; imported by the tests that need it.

It needs Chromium: ``apt-get install chromium`` on Debian.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waiting import PATIENCE, wait_until
from websockets.sync.client import ClientConnection, connect

#: It must not contact its makers' hosts, and does not touch a user's profile.
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--remote-debugging-port=0",
)  # fmt: skip


@dataclass
class Page:
    """One tab.

    Attributes
    ----------
    failed
        Requests that failed or were answered by an error: the URL and why.
    requested
        URLs of all requests.
    forbidden
        URLs of those that the browser did not send, because the page may not access them.
    errors
        Uncaught errors of the page's scripts.
    """

    connection: ClientConnection
    failed: list[tuple[str, str]] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _urls: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events are recorded meanwhile."""
        number = next(self._numbers)
        self.connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            reported = json.loads(self.connection.recv(timeout=PATIENCE))
            if reported.get("id") == number:
                assert "error" not in reported, reported
                answer: dict[str, Any] = reported["result"]
                return answer
            self._note(reported)

    def open(self, url: str) -> None:
        """Go to an address."""
        for domain in ("Page", "Network", "Runtime"):
            self.ask(f"{domain}.enable")
        self.ask("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true and return its value."""
        return wait_until(
            lambda: self.evaluate(expression), lambda: f"{expression}: {self.text()[:2000]}", pause=0.2
        )

    def text(self) -> str:
        """Return the visible text."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def screenshot(self, path: Path) -> None:
        """Save a screenshot as a PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def size(self, width: int, height: int) -> None:
        """Set the size of the window, pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )  # fmt: skip

    def _note(self, reported: dict[str, Any]) -> None:
        method, about = reported.get("method"), reported.get("params", {})
        if method == "Network.requestWillBeSent":
            self._urls[about["requestId"]] = about["request"]["url"]
            self.requested.append(about["request"]["url"])
        elif method == "Network.loadingFailed" and about.get("blockedReason") == "csp":
            self.forbidden.append(self._urls.get(about["requestId"], "?"))
        elif method == "Network.loadingFailed" and not about.get("canceled"):
            self.failed.append((self._urls.get(about["requestId"], "?"), about["errorText"]))
        elif method == "Network.responseReceived" and about["response"]["status"] >= 400:
            self.failed.append((about["response"]["url"], str(about["response"]["status"])))
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(about["exceptionDetails"].get("exception", {}).get("description", about)))


@contextlib.contextmanager
def browser_page(profile: Path, *flags: str, width: int = 1400, height: int = 1000) -> Iterator[Page]:
    """Yield a new tab of a separate browser, which ends with the block; ``flags`` are added to its command."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program is not None, "This test needs Chromium: apt-get install chromium"
    log = profile.with_suffix(".log")
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [program, *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"], stdout=sink, stderr=sink
        )
    try:
        with connect(_tab(log), max_size=None) as connection:
            page = Page(connection)
            page.size(width, height)
            yield page
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _tab(log: Path) -> str:
    found = wait_until(
        lambda: re.search(r"DevTools listening on ws://([\d.:]+)/", log.read_text(errors="replace")),
        lambda: f"the browser's address: {log.read_text(errors='replace')}",
        pause=0.1,
    )
    with urllib.request.urlopen(f"http://{found[1]}/json/list", timeout=PATIENCE) as answer:
        tabs = json.load(answer)
    url: str = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
    return url

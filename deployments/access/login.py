"""The page on which a browser logs in to both of Prefect's UIs, and the script that redirects to it.

Each of Prefect's UIs requests the password on a page of its own, after its other pages have shown errors. Both read it
from the same place in the browser's storage. So one page puts it there: from a link that `nirflow server login` prints,
with the password behind the ``#``, which no browser sends, or from its two fields. The first script of every page of
the UIs opens that page if the browser has no password, or one that the server no longer accepts.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Path of the page.
PAGE: Final = "/nirflow/login"
#: Path of the script of the UIs' pages.
SCRIPT: Final = "/nirflow/login.js"
_FOLDER: Final = Path(__file__).with_name("login_page")
_SERVED: Final = {PAGE: ("login.html", "text/html"), SCRIPT: ("login.js", "text/javascript")}
_TAG: Final = f'<script src="{SCRIPT}"></script>'


def link(ui_url: str, auth: str) -> str:
    """Return a link that logs in any browser that opens it, with USER:PASSWORD."""
    encoded = base64.urlsafe_b64encode(auth.encode()).decode().rstrip("=")
    return f"{ui_url.rstrip('/')}{PAGE}#{encoded}"


class Login:
    """An ASGI application with the login page in front of it.

    Parameters
    ----------
    app
        The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._served = {
            path: (_FOLDER.joinpath(name).read_bytes(), kind) for path, (name, kind) in _SERVED.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the page or its script, and forward all other requests to the application."""
        if (
            scope["type"] != "http"
            or scope["path"] not in self._served
            or scope["method"] not in ("GET", "HEAD")
        ):
            return await self._app(scope, receive, send)
        body, kind = self._served[scope["path"]]
        headers = [
            (b"content-type", f"{kind}; charset=utf-8".encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-cache"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] == "GET" else b""})


def put_script(ui: Path) -> None:
    """Add the script to the start pages of the UIs; doing so twice has no effect.

    Parameters
    ----------
    ui
        Folder with the server's own copy of the files of both UIs.
    """
    for page in ui.glob("*/index.html"):
        text = page.read_text()
        if _TAG not in text:
            page.write_text(text.replace("<head>", f"<head>{_TAG}", 1))

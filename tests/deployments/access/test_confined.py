"""The content security policy sent to browsers."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import Any

import pytest
from waiting import PATIENCE

from deployments.access.confined import Confined
from deployments.settings.server_settings import ServerAddress


def policy_of(app: Confined) -> dict[str, str]:
    """Return the policy in an application's answer."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http"}, None, send))  # type: ignore[arg-type]
    headers = dict(sent[0]["headers"])
    assert headers[b"x"] == b"1"
    assert sent[1] == {"type": "http.response.body", "body": b"content"}
    rules = headers[b"content-security-policy"].decode().split("; ")
    return dict(rule.split(" ", 1) for rule in rules)


async def answering(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"1")]})
    await send({"type": "http.response.body", "body": b"content"})


def test_a_page_may_contact_only_its_server() -> None:
    rules = policy_of(Confined(answering))
    assert rules["connect-src"] == "'self' data: blob:"
    assert rules["default-src"] == "'self'"
    others = [rule for name, rule in rules.items() if name != "connect-src"]
    assert not [rule for rule in others if "http" in rule or "*" in rule]


def test_other_messages_than_answers_are_unchanged() -> None:
    seen: list[Any] = []

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], send))

    asyncio.run(Confined(lifespan)({"type": "lifespan"}, None, print))  # type: ignore[arg-type]
    assert seen == [("lifespan", print)]


@pytest.mark.parametrize("path", ["/", "/v2/", "/nirflow/login"])
def test_the_server_sends_the_policy_with_every_page(prefect_server: ServerAddress, path: str) -> None:
    with urllib.request.urlopen(prefect_server.ui_url + path, timeout=PATIENCE) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]

"""Prefect's clients inside the server, by which automations act, with the password of the server.

The one that pauses and resumes automations sends none, and would be refused.
"""

from __future__ import annotations

import base64

from prefect.server.events import actions
from prefect.server.events.clients import PrefectServerEventsAPIClient
from prefect.settings import get_current_settings


class EventsClient(PrefectServerEventsAPIClient):
    """Says the server's own password, as its client of deployments and runs does."""

    def __init__(self, additional_headers: dict[str, str] | None = None) -> None:
        headers = dict(additional_headers or {})
        if auth := get_current_settings().server.api.auth_string:
            word = base64.b64encode(auth.get_secret_value().encode()).decode()
            headers.setdefault("Authorization", f"Basic {word}")
        super().__init__(headers)


def give_password() -> None:
    """Have the actions of automations use it."""
    actions.PrefectServerEventsAPIClient = EventsClient  # type: ignore[misc]

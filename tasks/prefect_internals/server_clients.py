"""Prefect's clients inside the server, used by automations, with the password of the server.

The client that pauses and resumes automations sends no password and would be refused.
"""

from __future__ import annotations

import base64

from prefect.server.events import actions
from prefect.server.events.clients import PrefectServerEventsAPIClient
from prefect.settings import get_current_settings


class EventsClient(PrefectServerEventsAPIClient):
    """A client that sends the server's own password, like its client of deployments and runs."""

    def __init__(self, additional_headers: dict[str, str] | None = None) -> None:
        headers = dict(additional_headers or {})
        if auth := get_current_settings().server.api.auth_string:
            credentials = base64.b64encode(auth.get_secret_value().encode()).decode()
            headers.setdefault("Authorization", f"Basic {credentials}")
        super().__init__(headers)


def give_password() -> None:
    """Make the actions of automations use this client."""
    actions.PrefectServerEventsAPIClient = EventsClient  # type: ignore[misc]

"""Telling people: a JSON message to a webhook, and mail. Off until the settings name somebody.

The block holds no address and no secret: the Prefect server, which sends, reads them from the settings.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import smtplib
import ssl
import urllib.error
import urllib.request
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any, Final

from prefect.blocks.abstract import NotificationBlock

from deployments.configuration import NotifySettings, Settings
from imaging.errors import NirflowError
from imaging.printable import printable, printable_lines

#: Name of the block's document.
BLOCK_NAME: Final = "nirflow"
_TIMEOUT: Final = 60.0  # s


class NotTold(NirflowError):
    """Somebody could not be told."""


class Notification(NotificationBlock):
    """Tells those that nirflow's settings name."""

    _block_type_name = "nirflow notification"
    _block_type_slug = "nirflow-notification"
    _description = "Tells those that nirflow's settings name, by webhook and mail."

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Send to everybody, also where one cannot be reached.

        Raises
        ------
        NotTold
            Names whom it did not reach, without the webhook's URL or a password.
        """
        await asyncio.to_thread(tell, Settings().notify, subject or "nirflow", body)


def tell(settings: NotifySettings, subject: str, body: str) -> None:
    """Send a message to everybody that the settings name; see `Notification.notify`."""
    subject, body = printable(subject), printable_lines(body)  # they name runs, frames and what went wrong
    problems = []
    if settings.webhook is not None:
        try:
            _post(settings.webhook.get_secret_value(), {"title": subject, "text": f"{subject}\n{body}"})
        except (OSError, ValueError, http.client.HTTPException) as error:
            problems.append(f"the webhook: {_kind(error)}")
    if settings.email_to:
        try:
            _mail(settings, subject, body)
        except (OSError, ValueError, smtplib.SMTPException) as error:
            problems.append(f"{', '.join(settings.email_to)}: {error}")
    if problems:
        raise NotTold(f"Not told: {'; '.join(problems)}.", remedy="Look at [notify] in the settings.")


def _kind(error: Exception) -> str:
    # Its words may hold the URL.
    code = f" {error.code}" if isinstance(error, urllib.error.HTTPError) else ""
    return f"{type(error).__name__}{code}"


def _post(url: str, message: dict[str, Any]) -> None:
    if not url.startswith(("http://", "https://")):
        raise ValueError("no http URL")
    request = urllib.request.Request(
        url, json.dumps(message).encode(), {"Content-Type": "application/json", "User-Agent": "nirflow"}
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT):
        pass


def _mail(settings: NotifySettings, subject: str, body: str) -> None:
    message = EmailMessage()
    message["Subject"] = subject
    message["From"], message["To"] = settings.email_from, ", ".join(settings.email_to)
    message["Date"], message["Message-ID"] = formatdate(), make_msgid("nirflow")
    message.set_content(body)
    with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=_TIMEOUT) as server:
        if settings.smtp_tls:
            server.starttls(context=ssl.create_default_context())  # without one, any certificate would do
        if settings.smtp_user is not None:
            password = settings.smtp_password
            server.login(settings.smtp_user, password.get_secret_value() if password is not None else "")
        server.send_message(message)

"""Telling people: a JSON message to a webhook, and mail. Off until the settings name somebody.

The block holds no address and no secret: the Prefect server, which sends, reads them from the settings.
"""

from __future__ import annotations

import asyncio
import json
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any, Final

from prefect.blocks.abstract import NotificationBlock

from deployments.http_client import Answer, NoAnswerError, ask
from deployments.settings.all_settings import NotifySettings, Settings
from imaging.errors import NirflowError
from imaging.printable import printable, printable_lines
from imaging.redaction import HIDDEN

#: Name of the block's document.
BLOCK_NAME: Final = "nirflow"
_TIMEOUT: Final = 60.0  # s


class NotDeliveredError(NirflowError):
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
        NotDeliveredError
            Names whom it did not reach, without the webhook's URL or a password.
        """
        await asyncio.to_thread(notify, Settings().notify, subject or "nirflow", body)


def notify(settings: NotifySettings, subject: str, body: str) -> None:
    """Send a message to everybody that the settings name; see `Notification.notify`."""
    subject, body = printable(subject), printable_lines(body)  # they name runs, frames and what went wrong
    problems = []
    if settings.webhook is not None:
        try:
            answer = _post(
                settings.webhook.get_secret_value(), {"title": subject, "text": f"{subject}\n{body}"}
            )
        except NoAnswerError as error:
            problems.append(f"the webhook: {error.kind}")  # its message may hold the URL
        else:
            if not answer.ok:
                problems.append(f"the webhook: {_refusal(answer)}")
    if settings.email_to:
        try:
            _mail(settings, subject, body)
        except (OSError, ValueError, smtplib.SMTPException) as error:
            problems.append(f"{', '.join(settings.email_to)}: {_without_password(settings, error)}")
    if problems:
        raise NotDeliveredError(
            f"Not told: {'; '.join(problems)}.", remedy="Look at [notify] in the settings."
        )


def _refusal(answer: Answer) -> str:
    moved = " (it leads to another address, which is not followed: name that one)" if answer.redirects else ""
    return f"HTTPError {answer.status}{moved}"


def _without_password(settings: NotifySettings, error: Exception) -> str:
    """The text of an error; a mail server may repeat in its answer what it was sent."""
    password = settings.smtp_password.get_secret_value() if settings.smtp_password is not None else ""
    told = isinstance(error, smtplib.SMTPResponseException) and password
    return str(error).replace(password, HIDDEN) if told else str(error)


def _post(url: str, message: dict[str, Any]) -> Answer:
    headers = {"Content-Type": "application/json"}
    # What else it answers is not read.
    return ask("POST", url, timeout=_TIMEOUT, body=json.dumps(message).encode(), headers=headers, read=False)


def _mail(settings: NotifySettings, subject: str, body: str) -> None:
    message = EmailMessage()
    message["Subject"] = subject
    message["From"], message["To"] = settings.email_from, ", ".join(settings.email_to)
    message["Date"], message["Message-ID"] = formatdate(), make_msgid("nirflow")
    message.set_content(body)
    # Without a context any certificate would do.
    context, way = ssl.create_default_context(), settings.smtp_encryption
    host, port = settings.smtp_host, settings.smtp_port
    server = (
        smtplib.SMTP_SSL(host, port, timeout=_TIMEOUT, context=context)
        if way == "implicit"
        else smtplib.SMTP(host, port, timeout=_TIMEOUT)
    )
    with server:
        if way == "starttls":
            server.starttls(context=context)
        if settings.smtp_user is not None:
            password = settings.smtp_password
            server.login(settings.smtp_user, password.get_secret_value() if password is not None else "")
        server.send_message(message)

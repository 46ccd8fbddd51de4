"""Notifications of users: a JSON message to a webhook, and mail. Off until the settings name a recipient.

The block contains no address and no secret: the Prefect server, which sends, reads them from the settings.
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
    """A notification that did not reach all recipients."""


class Notification(NotificationBlock):
    """A notification of the recipients in nirflow's settings."""

    _block_type_name = "nirflow notification"
    _block_type_slug = "nirflow-notification"
    _description = "Notifies the recipients in nirflow's settings, by webhook and mail."

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Send to all recipients, even if one cannot be reached.

        Raises
        ------
        NotDeliveredError
            Names the recipients not reached, without the webhook's URL or a password.
        """
        await asyncio.to_thread(notify, Settings().notify, subject or "nirflow", body)


def notify(settings: NotifySettings, subject: str, body: str) -> None:
    """Send a message to all recipients in the settings; see `Notification.notify`."""
    subject, body = (
        printable(subject),
        printable_lines(body),
    )  # they contain names of runs and frames, and errors
    problems = []
    if settings.webhook is not None:
        try:
            answer = _post(
                settings.webhook.get_secret_value(), {"title": subject, "text": f"{subject}\n{body}"}
            )
        except NoAnswerError as error:
            problems.append(f"the webhook: {error.kind}")  # its message may contain the URL
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
            f"The notification failed for {'; '.join(problems)}.", remedy="Check [notify] in the settings."
        )


def _refusal(answer: Answer) -> str:
    moved = " (a redirection, which is not followed: set the new address)" if answer.redirects else ""
    return f"HTTPError {answer.status}{moved}"


def _without_password(settings: NotifySettings, error: Exception) -> str:
    """Return the text of an error without the password, which a mail server may repeat."""
    password = settings.smtp_password.get_secret_value() if settings.smtp_password is not None else ""
    may_repeat = isinstance(error, smtplib.SMTPResponseException) and password
    return str(error).replace(password, HIDDEN) if may_repeat else str(error)


def _post(url: str, message: dict[str, Any]) -> Answer:
    headers = {"Content-Type": "application/json"}
    # The body of the answer is not read.
    return ask("POST", url, timeout=_TIMEOUT, body=json.dumps(message).encode(), headers=headers, read=False)


def _mail(settings: NotifySettings, subject: str, body: str) -> None:
    message = EmailMessage()
    message["Subject"] = subject
    message["From"], message["To"] = settings.email_from, ", ".join(settings.email_to)
    message["Date"], message["Message-ID"] = formatdate(), make_msgid("nirflow")
    message.set_content(body)
    # Without a context any certificate would be accepted.
    context, encryption = ssl.create_default_context(), settings.smtp_encryption
    host, port = settings.smtp_host, settings.smtp_port
    server = (
        smtplib.SMTP_SSL(host, port, timeout=_TIMEOUT, context=context)
        if encryption == "implicit"
        else smtplib.SMTP(host, port, timeout=_TIMEOUT)
    )
    with server:
        if encryption == "starttls":
            server.starttls(context=context)
        if settings.smtp_user is not None:
            password = settings.smtp_password
            server.login(settings.smtp_user, password.get_secret_value() if password is not None else "")
        server.send_message(message)

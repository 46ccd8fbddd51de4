"""Sending a notice to the recipients in the settings: a JSON message to a webhook, and mail."""

from __future__ import annotations

import json
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any, Final, Literal

from deployments.http_client import Answer, NoAnswerError, ask
from deployments.settings.all_settings import NotifySettings
from imaging.printable import printable, printable_lines
from imaging.redaction import HIDDEN

#: The ways of a notice to its recipients.
Way = Literal["webhook", "mail"]

_TIMEOUT: Final = 60.0  # s


def ways(settings: NotifySettings) -> tuple[Way, ...]:
    """Return the ways for which the settings name recipients."""
    wanted: list[Way] = ["webhook"] if settings.webhook is not None else []
    return (*wanted, "mail") if settings.email_to else tuple(wanted)


def send(settings: NotifySettings, subject: str, body: str, way: Way) -> str:
    """Send a notice on one way.

    Returns
    -------
    str
        Why it was not delivered, without the webhook's URL or a password; empty if it was.
    """
    # They contain names of runs and frames, and errors.
    subject, body = printable(subject), printable_lines(body)
    if way == "webhook":
        assert settings.webhook is not None
        message = {"title": subject, "text": f"{subject}\n{body}"}
        try:
            answer = _post(settings.webhook.get_secret_value(), message)
        except NoAnswerError as error:
            return f"the webhook: {error.kind}"  # its message may contain the URL
        return "" if answer.ok else f"the webhook: {_refusal(answer)}"
    try:
        _mail(settings, subject, body)
    except (OSError, ValueError, smtplib.SMTPException) as error:
        return f"{', '.join(settings.email_to)}: {_without_password(settings, error)}"
    return ""


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

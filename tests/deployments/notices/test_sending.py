"""Sending: messages to a webhook and a mail server, and reports of unreachable recipients."""

from __future__ import annotations

import smtplib
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from pydantic import SecretStr
from receivers import MailServer, Webhook, served

from calib_store.model.settings import WrongSettingsError
from deployments.notices.sending import send, ways
from deployments.settings.all_settings import NotifySettings, Settings


class NotDeliveredError(Exception):
    """A notice that did not reach all recipients."""


def notify(settings: NotifySettings, subject: str, body: str) -> None:
    """Send on all ways."""
    problems = filter(None, [send(settings, subject, body, way) for way in ways(settings)])
    if text := "; ".join(problems):
        raise NotDeliveredError(text)


def wanted(
    webhook: Webhook | str | None = None, mail: MailServer | None = None, **more: Any
) -> NotifySettings:
    values: dict[str, Any] = dict(more)
    if webhook is not None:
        values["webhook"] = SecretStr(webhook if isinstance(webhook, str) else webhook.url)
    if mail is not None:
        values = {"email_to": ("ana@b.example", "bob@b.example"), "smtp_host": "127.0.0.1"} | values
        values["smtp_port"] = mail.port
    return NotifySettings(**values)


def test_a_mail_has_a_date_and_an_id(mail_server: MailServer) -> None:
    began = time.time()
    for _ in range(2):
        notify(wanted(mail=mail_server), "a", "b")
    one, other = mail_server.mails
    assert one["Message-ID"] != other["Message-ID"]
    assert began - 1 <= parsedate_to_datetime(one["Date"]).timestamp() <= time.time()


def test_both_get_the_message(webhook: Webhook, mail_server: MailServer) -> None:
    notify(
        wanted(webhook, mail_server),
        "nirflow: night\n2013-11-21\x1b[2J failed",
        "Crashed: no\u202e sign\n\N{SNOWMAN} http://u",
    )
    ((headers, body),) = webhook.received
    assert headers["Content-Type"] == "application/json"
    assert body["title"] == r"nirflow: night\n2013-11-21\x1b[2J failed"
    assert body["text"].endswith("failed\nCrashed: no\\u202e sign\n\N{SNOWMAN} http://u")
    (mail,) = mail_server.mails
    assert mail["Subject"] == r"nirflow: night\n2013-11-21\x1b[2J failed"
    assert (mail["From"], mail["To"]) == ("nirflow@localhost", "ana@b.example, bob@b.example")
    assert mail.get_content().splitlines() == [r"Crashed: no\u202e sign", "\N{SNOWMAN} http://u"]  # type: ignore[attr-defined]
    assert len(mail_server.recipients) == 2


def test_nothing_is_sent_without_recipients(webhook: Webhook, mail_server: MailServer) -> None:
    off = NotifySettings(smtp_host="127.0.0.1", smtp_port=mail_server.port)
    assert not off.wanted
    notify(off, "subject", "body")
    assert webhook.received == mail_server.mails == []


def test_an_account_on_the_mail_server(mail_server: MailServer) -> None:
    mail_server.password = "pa ss"
    account = {"smtp_user": "nirflow", "smtp_password": SecretStr("pa ss")}
    notify(wanted(mail=mail_server, **account), "s", "b")
    assert len(mail_server.mails) == 1
    account["smtp_password"] = SecretStr("wr0ng")
    with pytest.raises(NotDeliveredError, match="535") as caught:
        notify(wanted(mail=mail_server, **account), "s", "b")
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/hooks/s3cret", "ftp://x/s3cret", "file:///s3cret", "http://host.invalid/s3cret",
        "http://127.0.0.1:9/hooks/ s3cret", "http://127.0.0.1:s3cret/", "http://[s3cret", "s3cret",
        "http://127.0.0.1:9/\N{SNOWMAN}s3cret",
    ],
)  # fmt: skip
def test_an_unreachable_webhook_is_reported_without_its_url_and_the_mail_is_sent(
    mail_server: MailServer, url: str
) -> None:
    with pytest.raises(NotDeliveredError, match="the webhook") as caught:
        notify(wanted(url, mail_server), "s", "b")
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1:9" not in str(caught.value)
    assert len(mail_server.mails) == 1


@pytest.mark.parametrize("code", [403, 500])
def test_a_webhook_that_refuses_is_reported_with_its_answer(code: int) -> None:
    with (
        served(Webhook(code)) as refusing,
        pytest.raises(NotDeliveredError, match=f"the webhook: HTTPError {code}"),
    ):
        notify(wanted(refusing), "s", "b")


def test_an_unreachable_mail_server_does_not_block_the_webhook(webhook: Webhook) -> None:
    down = NotifySettings(
        webhook=SecretStr(webhook.url), email_to=("ana@b.example",), smtp_host="127.0.0.1", smtp_port=9
    )
    with pytest.raises(NotDeliveredError, match=r"ana@b\.example: .*refused"):
        notify(down, "s", "b")
    assert len(webhook.received) == 1


@pytest.mark.parametrize("address", ["ana@b.example\nBcc: all@b.example", "\N{SNOWMAN}@b.example"])
def test_an_invalid_address_is_reported(webhook: Webhook, mail_server: MailServer, address: str) -> None:
    with pytest.raises(NotDeliveredError, match=r"b\.example"):
        notify(wanted(webhook, mail_server, email_to=(address,)), "s", "b")
    assert len(webhook.received) == 1
    assert mail_server.mails == []


def test_a_mail_server_that_refuses_all_recipients(mail_server: MailServer) -> None:
    mail_server.refused = {"ana@b.example", "bob@b.example"}
    with pytest.raises(NotDeliveredError, match="550"):
        notify(wanted(mail=mail_server), "s", "b")


def test_a_mail_server_without_a_valid_certificate_gets_no_password(
    mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: list[ssl.SSLContext] = []

    def starttls(server: smtplib.SMTP, *, context: ssl.SSLContext) -> None:
        contexts.append(context)
        raise ssl.SSLCertVerificationError("self-signed certificate")

    monkeypatch.setattr(smtplib.SMTP, "starttls", starttls)
    with pytest.raises(NotDeliveredError, match="self-signed certificate"):
        notify(
            wanted(mail=mail_server, smtp_tls=True, smtp_user="ana", smtp_password=SecretStr("s")), "a", "b"
        )
    (context,) = contexts
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert mail_server.mails == []


@pytest.mark.parametrize(
    ("values", "encryption"),
    [
        ({}, "off"),
        ({"smtp_host": "mail.example.org"}, "off"),
        ({"smtp_host": "mail.example.org", "smtp_user": "ana"}, "starttls"),
        ({"smtp_host": "mail.example.org", "smtp_user": "ana", "smtp_port": 587}, "starttls"),
        ({"smtp_host": "mail.example.org", "smtp_user": "ana", "smtp_port": 465}, "implicit"),
        ({"smtp_host": "mail.example.org", "smtp_user": "ana", "smtp_tls": "implicit"}, "implicit"),
        ({"smtp_host": "localhost", "smtp_user": "ana"}, "off"),
        ({"smtp_host": "::1", "smtp_user": "ana"}, "off"),
        ({"smtp_host": "127.0.0.1.example.org", "smtp_user": "ana"}, "starttls"),
        ({"smtp_tls": True}, "starttls"),
        ({"smtp_tls": "true"}, "starttls"),
        ({"smtp_tls": False, "smtp_port": 465}, "off"),
    ],
)
def test_a_password_is_encrypted_by_default(values: dict[str, Any], encryption: str) -> None:
    assert NotifySettings(**values).smtp_encryption == encryption


def test_a_password_in_clear_text_to_another_machine_must_be_enabled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clear = {"smtp_host": "mail.example.org", "smtp_user": "ana", "smtp_tls": False}
    with pytest.raises(
        ValueError, match=r"smtp_tls is off, so the password of ana would go to mail\.example\.org"
    ):
        NotifySettings(**clear)
    assert NotifySettings(**clear, smtp_plain_login=True).smtp_encryption == "off"
    for name, value in clear.items():
        monkeypatch.setenv(f"NIRFLOW_NOTIFY_{name.upper()}", str(value).lower())
    monkeypatch.setenv("NIRFLOW_NOTIFY_SMTP_PASSWORD", "hush")
    with pytest.raises(WrongSettingsError, match="smtp_plain_login") as caught:
        Settings()
    assert "hush" not in str(caught.value)


def test_a_mail_server_without_starttls_gets_no_password(mail_server: MailServer) -> None:
    account = {"smtp_user": "ana", "smtp_password": SecretStr("s3cret"), "smtp_tls": "starttls"}
    with pytest.raises(NotDeliveredError, match="STARTTLS"):
        notify(wanted(mail=mail_server, **account), "s", "b")
    assert mail_server.commands == []


def test_implicit_encryption_begins_with_the_first_byte(mail_server: MailServer) -> None:
    with pytest.raises(NotDeliveredError, match=r"(?i)ssl"):
        notify(wanted(mail=mail_server, smtp_tls="implicit"), "s", "b")
    assert mail_server.mails == []


def test_a_password_that_a_server_repeats_is_hidden(mail_server: MailServer) -> None:
    mail_server.echo = "wr0ng"
    account = {"smtp_user": "ana", "smtp_password": SecretStr("wr0ng")}
    with pytest.raises(NotDeliveredError, match="535") as caught:
        notify(wanted(mail=mail_server, **account), "s", "b")
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirections_of_a_webhook_are_not_followed(webhook: Webhook, code: int) -> None:
    with served(Webhook(code)) as moved:
        moved.location = webhook.url
        with pytest.raises(
            NotDeliveredError, match=f"the webhook: HTTPError {code} .*not followed"
        ) as caught:
            notify(wanted(moved), "s", "b")
        assert len(moved.received) == 1
    assert webhook.received == webhook.got == []
    assert "s3cret" not in str(caught.value)


def test_the_answer_of_a_webhook_is_not_read(webhook: Webhook) -> None:
    webhook.endless = True
    notify(wanted(webhook), "s", "b")
    assert len(webhook.received) == 1

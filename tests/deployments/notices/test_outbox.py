"""Notices are kept until they are delivered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from receivers import MailServer, Webhook

from deployments.notices.outbox import deliver, keep, post, waiting
from deployments.settings.all_settings import NotifySettings, Settings


def settings_of(folder: Path, webhook: Webhook, mail: MailServer | None = None) -> Settings:
    to_mail = (
        {"email_to": ("ana@b.example",), "smtp_host": "127.0.0.1", "smtp_port": mail.port} if mail else {}
    )
    notify = NotifySettings.model_validate({"webhook": SecretStr(webhook.url), **to_mail})
    return Settings(data_dir=folder, notify=notify)


def test_a_notice_is_sent_again_where_it_failed_and_only_there(
    tmp_path: Path, webhook: Webhook, mail_server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(tmp_path, webhook, mail_server)
    webhook.code = 503
    post(settings, "a night", "it failed")
    assert "it was not delivered: the webhook: HTTPError 503" in caplog.text
    (notice,) = waiting(settings)
    assert (notice.left, notice.tries, notice.problem) == (("webhook",), 1, "the webhook: HTTPError 503")
    files = [path for path in (tmp_path / "notices").iterdir() if "s3cret" in path.read_text()]
    assert files == []
    webhook.code = 200
    now = datetime.now(UTC)
    deliver(settings, now + timedelta(seconds=50))  # not due yet
    assert len(waiting(settings)) == 1
    deliver(settings, now + timedelta(minutes=2))
    assert waiting(settings) == ()
    assert (len(webhook.received), len(mail_server.mails)) == (2, 1)


def test_pauses_grow_and_after_a_week_a_notice_is_given_up(
    tmp_path: Path, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(tmp_path, webhook)
    webhook.code = 500
    assert keep(settings, "a night", "it failed") is not None
    now, pauses = datetime.now(UTC), []
    for _ in range(9):
        deliver(settings, now)
        (notice,) = waiting(settings)
        pauses.append((notice.due - now).total_seconds() / 60)
        now = notice.due
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    deliver(settings, now + timedelta(days=7))
    assert waiting(settings) == ()
    assert "is given up" in caplog.text


def test_without_recipients_nothing_is_kept(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    post(settings, "a", "b")
    deliver(settings)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_notice_does_not_hold_up_the_others(tmp_path: Path, webhook: Webhook) -> None:
    settings = settings_of(tmp_path, webhook)
    (tmp_path / "notices").mkdir()
    (tmp_path / "notices" / "0.json").write_text("{")
    post(settings, "a", "b")
    assert len(webhook.received) == 1
    assert waiting(settings) == ()

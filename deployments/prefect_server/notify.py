"""The block with which the automations of the Prefect server notify users; off until the settings name a recipient.

The block contains no address and no secret: the Prefect server, which sends, reads them from the settings.
"""

from __future__ import annotations

import asyncio
from typing import Final

from prefect.blocks.abstract import NotificationBlock

from deployments.notices.outbox import post
from deployments.settings.all_settings import Settings

#: Name of the block's document.
BLOCK_NAME: Final = "nirflow"


class Notification(NotificationBlock):
    """A notification of the recipients in nirflow's settings."""

    _block_type_name = "nirflow notification"
    _block_type_slug = "nirflow-notification"
    _description = "Notifies the recipients in nirflow's settings, by webhook and mail."

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Send to all recipients; to those that cannot be reached, again later.

        Nothing is raised for them: Prefect would repeat the action, and the others would get it several times.
        """
        await asyncio.to_thread(post, Settings(), subject or "nirflow", body)

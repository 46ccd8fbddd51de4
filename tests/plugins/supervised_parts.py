"""Parts of the service that only sleep."""

from __future__ import annotations

from waiting import PATIENCE

from deployments.settings.all_settings import Settings
from deployments.supervisor import service

SLEEP = "import time; time.sleep(3600)"


def start(settings: Settings) -> tuple[int, bool]:
    state, started = service.start(settings, timeout=PATIENCE)
    return state.pid, started

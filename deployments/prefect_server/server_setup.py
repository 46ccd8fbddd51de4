"""The environment of a server process, and its digest for comparing a running server with the settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from calib_store.model.settings import CONFIG, PREFIX, SECRETS, settings_file
from deployments.settings.server_settings import NAMES, ROLES, ServerSettings, server_environment


def environment_of(settings: ServerSettings, folder: Path, port: int, database_url: str) -> dict[str, str]:
    """Return the complete environment of a server process with these settings."""
    environment = server_environment(settings, home=folder, port=port, database_url=database_url)
    if (file := settings_file()) is not None:
        environment[CONFIG] = str(
            file
        )  # it has another working folder, and needs the settings for notifications
    if secrets := environment.get(SECRETS):
        environment[SECRETS] = str(Path(secrets).expanduser().absolute())
    return environment


def digest(environment: Mapping[str, str]) -> str:
    """Return a digest of a server's settings, slow to compute so that passwords cannot be guessed from it."""
    relevant = {
        n: v
        for n, v in environment.items()
        if n.startswith(("PREFECT_", f"{PREFIX}NOTIFY_", CONFIG, SECRETS, NAMES, *ROLES))
    }
    text = json.dumps(relevant, sort_keys=True).encode()
    return hashlib.pbkdf2_hmac("sha256", text, b"nirflow server", 100_000).hex()

"""What a server process is started with, and the digest by which one that runs is compared with the settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from calib_store.model.settings import CONFIG, PREFIX, SECRETS, settings_file
from deployments.settings.server_settings import NAMES, ROLES, ServerSettings, server_environment


def environment_of(settings: ServerSettings, folder: Path, port: int, database_url: str) -> dict[str, str]:
    """The whole environment of a server process with these settings."""
    environment = server_environment(settings, home=folder, port=port, database_url=database_url)
    if (file := settings_file()) is not None:
        environment[CONFIG] = str(file)  # it works in another folder, and looks up whom to tell of what
    if secrets := environment.get(SECRETS):
        environment[SECRETS] = str(Path(secrets).expanduser().absolute())
    return environment


def digest(environment: Mapping[str, str]) -> str:
    """Digest of all that a server is told, slow to guess a password from."""
    told = {
        n: v
        for n, v in environment.items()
        if n.startswith(("PREFECT_", f"{PREFIX}NOTIFY_", CONFIG, SECRETS, NAMES, *ROLES))
    }
    text = json.dumps(told, sort_keys=True).encode()
    return hashlib.pbkdf2_hmac("sha256", text, b"nirflow server", 100_000).hex()

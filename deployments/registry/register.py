"""Register everything with the Prefect server: ``python -m deployments.registry.register``.

The server's address is read as JSON from standard input, or, if that is a terminal or empty, from the environment.
Modules are imported before it is read, as that takes seconds in which a server may start.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from deployments.prefect_server.client import connected, quick_imports
from deployments.printable_output import make_output_printable
from deployments.settings.server_settings import ServerAddress
from imaging.errors import NirflowError


def encoded_address(address: ServerAddress) -> bytes:
    """Return the address as JSON for standard input."""
    return json.dumps(dataclasses.asdict(address), default=str).encode()


def main() -> int:
    """Register everything that the settings need, and upgrade an embedded store; a known problem is a message."""
    make_output_printable()
    # Until the address is known, Prefect must not find another server of the user.
    os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")
    with quick_imports():
        from deployments.registry.registry import register
    from calib_store.store import Store
    from deployments.settings.all_settings import Settings

    text = "" if sys.stdin.isatty() else sys.stdin.read()
    settings = Settings()
    try:
        with Store.open(settings):
            pass
        with connected(_address(text)) if text else nullcontext():
            register(settings)
    except NirflowError as error:
        sys.exit(str(error))
    return 0


def _address(text: str) -> ServerAddress:
    fields = json.loads(text)
    return ServerAddress(**fields | {"home": Path(fields["home"]) if fields["home"] else None})


if __name__ == "__main__":
    sys.exit(main())

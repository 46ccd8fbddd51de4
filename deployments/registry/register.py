"""Register everything with the Prefect server: ``python -m deployments.registry.register``.

Standard input holds the server's address as JSON; where there is none (a terminal, a container's command) it is
in the environment. Importing takes seconds, so it is done before the way is told: a server may start meanwhile.
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


def encoded_address(address: ServerAddress) -> bytes:
    """What goes to standard input."""
    return json.dumps(dataclasses.asdict(address), default=str).encode()


def main() -> int:
    """Register what the settings ask for, and bring an embedded store up to date."""
    make_output_printable()
    # Until the way is known, nothing of Prefect may find a server of the user's.
    os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")
    with quick_imports():
        from deployments.registry.registry import register
    from calib_store.store import Store
    from deployments.settings.all_settings import Settings

    told = "" if sys.stdin.isatty() else sys.stdin.read()
    settings = Settings()
    with Store.open(settings):
        pass
    with connected(_address(told)) if told else nullcontext():
        register(settings)
    return 0


def _address(told: str) -> ServerAddress:
    fields = json.loads(told)
    return ServerAddress(**fields | {"home": Path(fields["home"]) if fields["home"] else None})


if __name__ == "__main__":
    sys.exit(main())

"""Prefect's HTTP clients without a proxy where the server is on this machine, or in this process.

httpx creates the connections to all proxies of the environment together with a client, also those that no request
will use. For a proxy of a kind that it lacks a package for, such as ``ALL_PROXY=socks5h://...``, that fails.
"""

from __future__ import annotations

import ipaddress
from functools import cache, wraps
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from imaging.after_import import after_import


@cache
def use_no_proxy_for_loopback() -> None:
    """Make Prefect's clients ignore the proxies of the environment for such a server; Prefect is not imported."""
    after_import("prefect.client.base", _without_proxies)


def is_this_machine(url: str) -> bool:
    """Return whether a URL names this machine by ``localhost`` or a loopback address."""
    name = urlsplit(url).hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _without_proxies(base: ModuleType) -> None:
    for name in ("PrefectHttpxAsyncClient", "PrefectHttpxSyncClient"):
        if not hasattr(base, name):
            raise RuntimeError(
                f"Prefect has no {base.__name__}.{name} any longer: see tasks/prefect_internals/loopback_clients.py"
            )
        client: Any = getattr(base, name)
        client.__init__ = _direct(client.__init__)


def _direct(create: Any) -> Any:
    @wraps(create)
    def __init__(self: Any, *arguments: Any, **options: Any) -> None:
        # A transport of its own leads to the application in this process.
        if options.get("transport") is not None or is_this_machine(str(options.get("base_url", ""))):
            options["trust_env"] = False
        create(self, *arguments, **options)

    return __init__

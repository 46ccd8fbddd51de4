"""The settings of the Prefect server, and the environments made from them for the server and its clients.

Prefect reads its settings from the environment once, when it is imported. So nothing here imports Prefect: a process
first sets its environment, and then imports Prefect.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from calib_store.libpq import without_variables
from calib_store.model.settings import Address

LOGGERS: Final = ("nirflow", "imaging", "tasks", "flows", "calib_store", "deployments")
"""Our top-level loggers, whose lines also go to the run's page in the Prefect UI."""

#: Variable with further names of the server, for its process.
NAMES: Final = "NIRFLOW_SERVER_NAMES"
#: Variables with the passwords of viewer and operator from the settings, for the server process.
ROLES: Final = ("NIRFLOW_SERVER_VIEWER_AUTH", "NIRFLOW_SERVER_OPERATOR_AUTH")

#: Variables that would move the API or the UI away from the paths that clients, login page and guard expect.
_PLACES: Final = frozenset({"PREFECT_SERVER_API_BASE_PATH", "PREFECT_SERVER_UI_SERVE_BASE"})

#: Variables for the server, its clients and their child processes.
_ALWAYS: Final = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    # `python -m` must not import modules from the working folder.
    "PYTHONSAFEPATH": "1",
}


#: A host name, or an IPv4 or IPv6 address.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a host name without port and path, such as nights.example.org")
    return text


class ServerSettings(BaseModel):
    """Settings of the Prefect server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(
        default="127.0.0.1",
        description="address that the server listens on; 0.0.0.0 for all addresses of this machine",
    )
    port: int = Field(
        default=4210,
        ge=0,
        le=65535,
        description="TCP port; if another program uses it, a free one is taken, until the next nirflow up",
    )
    public_url: Address | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+",
        description="URL at which browsers reach the UI, if not the address that it listens on",
    )
    names: tuple[Annotated[str, AfterValidator(_name)], ...] = Field(
        default=(),
        description="further names and addresses at which browsers and clients may reach the server, without a port; "
        "requests to any other are refused",
    )
    auth: SecretStr | None = Field(
        default=None,
        description="USER:PASSWORD that the server requires from browsers and clients (also "
        "PREFECT_SERVER_API_AUTH_STRING); default: created, and shown by nirflow server login",
    )
    operator_auth: SecretStr | None = Field(
        default=None,
        description="USER:PASSWORD of operators, who may start, cancel and retry runs, and decide about products; "
        "default: created by nirflow server login --role operator",
    )
    viewer_auth: SecretStr | None = Field(
        default=None,
        description="USER:PASSWORD of viewers, who may see everything and change nothing; default: created by nirflow "
        "server login --role viewer",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="Prefect's own PostgreSQL database (postgresql://...); default: in the embedded server",
    )
    log_level: str = Field(default="WARNING", description="level of the server's own log file")
    stop_grace: float = Field(
        default=30.0, ge=0, description="time between the request to stop and the kill, s"
    )

    @property
    def auth_string(self) -> str | None:
        """USER:PASSWORD from the settings or from Prefect's own variable."""
        given = self.auth.get_secret_value() if self.auth is not None else None
        return given or os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or None


@dataclass(frozen=True)
class ServerAddress:
    """The address of a running Prefect server.

    Parameters
    ----------
    api_url, ui_url
        URLs for clients and for browsers.
    pid
        The server's process; None for a server that the user named with PREFECT_API_URL.
    started
        Whether this call started it.
    home
        PREFECT_HOME of its clients; None for the user's own.
    auth
        USER:PASSWORD, if the server requires one.
    """

    api_url: str
    ui_url: str
    pid: int | None
    started: bool
    home: Path | None
    auth: str | None = field(default=None, repr=False)


def named_address(api_url: str, settings: ServerSettings) -> ServerAddress:
    """Return the address of a server that the user named with PREFECT_API_URL, with its password."""
    browsers = settings.public_url or api_url.removesuffix("/api")
    auth = os.environ.get("PREFECT_API_AUTH_STRING") or settings.auth_string
    return ServerAddress(api_url, browsers, pid=None, started=False, home=None, auth=auth)


def server_environment(
    settings: ServerSettings,
    *,
    home: Path,
    port: int,
    database_url: str,
    base: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the complete environment of the server process.

    A ``PREFECT_SERVER_*`` variable of the user overrides our defaults, except those by which the server is found: home,
    database, host and port.

    Parameters
    ----------
    settings
        Settings of the server.
    home
        PREFECT_HOME: the folder of block memo, UI files and results.
    port
        The port that the server actually listens on.
    database_url
        SQLAlchemy URL with the asyncpg driver.
    base
        The environment to start from; default: that of this process.
    """
    base = os.environ if base is None else base
    # Other variables of Prefect in it are for clients: a user's profile, or this process's own settings.
    # asyncpg reads libpq's variables, which would direct the server to another database.
    kept = {
        name: value
        for name, value in without_variables(base).items()
        if not name.startswith("PREFECT_") or (name.startswith("PREFECT_SERVER_") and name not in _PLACES)
    }
    defaults = {
        # Task-run events in batches: takes a third of the CPU time per task run of the default.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        # Events are safe on disk at most one second after they were accepted, instead of five.
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
        # The default checks every 5 s for late runs and long pauses take a tenth of a core.
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "15",
        "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "15",
        # Start with the UI that shows artifacts next to the steps, and what started a run.
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": settings.log_level,
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "tasks.prefect_internals.event_ordering",
        # How soon after its quiet time a sequence is recognised as finished.
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT2S",
        # Triggers survive a time without a server: by default, at the start, those due more than a minute before are
        # dropped, and a dead run would seem to run forever.
        "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P30D",
    }
    browsers = settings.public_url or base_url(settings.host, port)
    ours = {
        **_ALWAYS,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database_url,
        "PREFECT_SERVER_API_HOST": settings.host,
        "PREFECT_SERVER_API_PORT": str(port),
        # The UI must use the API under the name of its own page: under any other it would be a foreign page.
        "PREFECT_SERVER_UI_API_URL": "/api",
        # Its notifications contain links to its pages.
        "PREFECT_UI_URL": browsers.rstrip("/"),
        # No page of another origin may use the API in a browser that is logged in.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": browsers.rstrip("/"),
        # The copy of its files goes to a folder that is certainly writable.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT__SERVER_FINAL": "1",
        NAMES: json.dumps(settings.names),
        **_without_proxy_here(base),
    }
    if auth := settings.auth_string:
        ours["PREFECT_SERVER_API_AUTH_STRING"] = auth
        # The server is its own client, for example for deployments that a trigger starts.
        ours["PREFECT_API_AUTH_STRING"] = auth
    for name, secret in zip(ROLES, (settings.viewer_auth, settings.operator_auth), strict=True):
        if secret is not None:
            ours[name] = secret.get_secret_value()
    return {**defaults, **kept, **ours}


def client_environment(address: ServerAddress, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that must be in ``os.environ`` *before* Prefect is imported, to use that server.

    Prefect's own log lines stay off the console; they and those of our loggers go to the run's page in the UI. Requests
    go only to the server.

    Parameters
    ----------
    address
        From `deployments.prefect_server.server.ensure_server`.
    base
        The environment that will be updated (for NO_PROXY); default: that of this process.
    """
    base = os.environ if base is None else base
    environment = {
        **_ALWAYS,
        "PREFECT_API_URL": address.api_url,
        "PREFECT_UI_URL": address.ui_url,
        # A lost server is an error, not a reason for a temporary server that keeps no runs.
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # Both are pinned to one version: checking the server's version is useless.
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        # While its database restarts, the server responds with these for some seconds. Five tries take a minute.
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500,502,504",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(LOGGERS),
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    }
    if address.auth is not None:
        environment["PREFECT_API_AUTH_STRING"] = address.auth
    if address.home is not None:
        environment["PREFECT_HOME"] = str(address.home)
        environment |= _without_proxy_here(base)
    return environment


def _without_proxy_here(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which a proxy for other hosts is not used for a server on this machine."""
    local = "127.0.0.1,localhost,::1"
    known = base.get("no_proxy") or base.get("NO_PROXY") or ""
    hosts = known if local in known else ",".join(filter(None, (known, local)))
    return {"no_proxy": hosts, "NO_PROXY": hosts}


def unusable_proxies(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of proxies of a kind that this installation has no package for, emptied.

    A process of a flow run contacts its server before it imports anything of nirflow's, with a client that fails for
    such a proxy, although it does not use it (`tasks.prefect_internals.loopback_clients`).
    """
    usable = {"http", "https"} | ({"socks5", "socks5h"} if find_spec("socksio") is not None else set())
    proxies = (name for name in base if name.lower() in ("http_proxy", "https_proxy", "all_proxy"))
    return {
        name: ""
        for name in proxies
        if "://" in base[name] and urlsplit(base[name]).scheme.lower() not in usable
    }


def strays(base: Mapping[str, str]) -> set[str]:
    """Return the variables of the user's own Prefect, which would misdirect a client of our server.

    Those of a server are not among them: they may contain its password.
    """
    return {
        n for n in base if n.startswith("PREFECT_") and not n.startswith(("PREFECT_SERVER_", "PREFECT__"))
    }


def base_url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server bound to `host`."""
    # A name of this machine may stand for two addresses, and another program may use the port of one of them.
    local = {"0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "::1"}
    reachable = local.get(host, host)
    reachable = f"[{reachable}]" if ":" in reachable else reachable
    return f"http://{reachable}:{port}"

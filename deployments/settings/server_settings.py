"""What can be set about the Prefect server, and the environments made from it for the server and its clients.

Prefect reads its settings from the environment once, when it is imported. So nothing here imports
Prefect: a process asks for its environment first, puts it in place, and imports Prefect after.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from calib_store.libpq import without_variables
from calib_store.model.settings import Address

LOGGERS: Final = ("nirflow", "imaging", "tasks", "flows", "calib_store", "deployments")
"""Our top-level loggers; their lines also go to the run's page in the Prefect UI."""

#: Variable by which the server process learns of further names of its own.
NAMES: Final = "NIRFLOW_SERVER_NAMES"
#: Variables by which it has the passwords of the viewer and the operator from the settings, where they have any.
ROLES: Final = ("NIRFLOW_SERVER_VIEWER_AUTH", "NIRFLOW_SERVER_OPERATOR_AUTH")

#: They would move the API or the UI away from where clients, the login page and the guard know them.
_PLACES: Final = frozenset({"PREFECT_SERVER_API_BASE_PATH", "PREFECT_SERVER_UI_SERVE_BASE"})

#: For the server, its clients and all that they start.
_ALWAYS: Final = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    # `python -m` finds no module in the folder that a process works in.
    "PYTHONSAFEPATH": "1",
}


#: A host name, or an address of IPv4 or IPv6.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no name of a host without port and path, such as nights.example.org")
    return text


class ServerSettings(BaseModel):
    """Settings of the Prefect server that nirflow keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(
        default="127.0.0.1",
        description="address that the server listens on; 0.0.0.0 for all of this machine",
    )
    port: int = Field(
        default=4210,
        ge=0,
        le=65535,
        description="TCP port; when another program has it, a free one is taken, until the next nirflow up",
    )
    public_url: Address | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+",
        description="URL by which browsers reach the UI, where it is not the address that it listens on",
    )
    names: tuple[Annotated[str, AfterValidator(_name)], ...] = Field(
        default=(),
        description="further names and addresses by which browsers and clients may reach the server, without a "
        "port; a request by any other is refused",
    )
    auth: SecretStr | None = Field(
        default=None,
        description="USER:PASSWORD that the server asks of browsers and clients "
        "(PREFECT_SERVER_API_AUTH_STRING does the same); one is made without it, which nirflow server login shows",
    )
    operator_auth: SecretStr | None = Field(
        default=None,
        description="USER:PASSWORD of those who may start, cancel and retry runs, and decide about products; without "
        "it nirflow server login --role operator makes one",
    )
    viewer_auth: SecretStr | None = Field(
        default=None,
        description="USER:PASSWORD of those who may look at everything and change nothing; without it "
        "nirflow server login --role viewer makes one",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="Prefect's own PostgreSQL database (postgresql://...); the embedded server's without it",
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
    """Where a running Prefect server is.

    Parameters
    ----------
    api_url, ui_url
        Where clients and people connect.
    pid
        The server's process; None for a server that the user named with PREFECT_API_URL.
    started
        True when this call started it.
    home
        PREFECT_HOME of its clients; None leaves the user's own.
    auth
        USER:PASSWORD that it asks for, if it does.
    """

    api_url: str
    ui_url: str
    pid: int | None
    started: bool
    home: Path | None
    auth: str | None = field(default=None, repr=False)


def named_address(api_url: str, settings: ServerSettings) -> ServerAddress:
    """The address of a server that the user named with PREFECT_API_URL, with the password for it."""
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
    """Return the whole environment of the server process.

    A ``PREFECT_SERVER_*`` that the user has set wins over our defaults, except for what makes the server
    findable: home, database, host and port.

    Parameters
    ----------
    settings
        What the user set.
    home
        PREFECT_HOME: block memo, UI files and results go below it.
    port
        The port that the server really listens on.
    database_url
        SQLAlchemy URL with the asyncpg driver.
    base
        The environment to start from; the process's own by default.
    """
    base = os.environ if base is None else base
    # Anything else of Prefect's in there is a client's: a user's profile, or this process's own settings.
    # asyncpg reads libpq's variables, which would lead the server to another database.
    kept = {
        name: value
        for name, value in without_variables(base).items()
        if not name.startswith("PREFECT_") or (name.startswith("PREFECT_SERVER_") and name not in _PLACES)
    }
    defaults = {
        # Task-run events in batches: a third of the server's CPU per task run of the default.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        # Events are safe on disk at most a second after they were accepted, in place of five.
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
        # What looks every 5 s whether a run is late or paused for too long: a tenth of a core for nothing.
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "15",
        "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "15",
        # Its first page is that of the UI that shows what was made beside the steps, and what started a run.
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": settings.log_level,
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "tasks.prefect_internals.event_ordering",
        # How soon after its quiet time a sequence is seen to be finished, s.
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT2S",
        # What a trigger waits for outlives a server that was down: by default it is forgotten, at the start, where
        # it was due more than a minute before. A run that died would seem to run for ever.
        "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P30D",
    }
    browsers = settings.public_url or base_url(settings.host, port)
    ours = {
        **_ALWAYS,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database_url,
        "PREFECT_SERVER_API_HOST": settings.host,
        "PREFECT_SERVER_API_PORT": str(port),
        # The UI asks the API by the name that the browser has its page by: by any other it would be a foreign page.
        "PREFECT_SERVER_UI_API_URL": "/api",
        # The messages that it sends have links to its pages.
        "PREFECT_UI_URL": browsers.rstrip("/"),
        # No page of another origin may use the API in a browser that is logged in.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": browsers.rstrip("/"),
        # The copy of its files goes where we may surely write.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT__SERVER_FINAL": "1",
        NAMES: json.dumps(settings.names),
    }
    if auth := settings.auth_string:
        ours["PREFECT_SERVER_API_AUTH_STRING"] = auth
        # The server is a client of its own: deployments that a trigger runs, for one.
        ours["PREFECT_API_AUTH_STRING"] = auth
    for name, word in zip(ROLES, (settings.viewer_auth, settings.operator_auth), strict=True):
        if word is not None:
            ours[name] = word.get_secret_value()
    return {**defaults, **kept, **ours}


def client_environment(address: ServerAddress, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what must be in ``os.environ`` *before* Prefect is imported, to talk to that server.

    Prefect's own chatter stays off the console; its lines and those of our loggers go to the run's page
    in the UI. No request leaves for anywhere but the server.

    Parameters
    ----------
    address
        From `deployments.prefect_server.server.ensure_server`.
    base
        The environment that will be updated (for NO_PROXY); the process's own by default.
    """
    base = os.environ if base is None else base
    environment = {
        **_ALWAYS,
        "PREFECT_API_URL": address.api_url,
        "PREFECT_UI_URL": address.ui_url,
        # A lost server is an error, not a reason for a throw-away server that forgets its runs.
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # Both are pinned to one version: asking the server for its version buys nothing.
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        # Its database restarts: the server answers with these for some seconds. Five tries take a minute.
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
        # A proxy meant for the outside must not be asked for a server on this machine.
        local = "127.0.0.1,localhost"
        known = base.get("no_proxy") or base.get("NO_PROXY") or ""
        hosts = known if local in known else ",".join(filter(None, (known, local)))
        environment |= {"no_proxy": hosts, "NO_PROXY": hosts}
    return environment


def strays(base: Mapping[str, str]) -> set[str]:
    """Variables of an environment that would have a client of our server do otherwise: those of the user's own Prefect.

    Those of a server stay: they may hold its password.
    """
    return {
        n for n in base if n.startswith("PREFECT_") and not n.startswith(("PREFECT_SERVER_", "PREFECT__"))
    }


def base_url(host: str, port: int) -> str:
    """Return the URL by which this machine reaches a server bound to `host`."""
    # A name of this machine may stand for two addresses, and of one of them another program may have the port.
    local = {"0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "::1"}
    reachable = local.get(host, host)
    reachable = f"[{reachable}]" if ":" in reachable else reachable
    return f"http://{reachable}:{port}"

"""The command of the worker; ``python -m deployments.supervisor.command`` becomes the worker in a container.

PREFECT_API_URL names the server; its password comes from the settings. ``--register`` registers everything there
instead, and ``--check`` reports by its exit code whether the server receives the worker's heartbeats.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

from deployments.prefect_api.names import POOL, worker_name
from deployments.prefect_api.rest import Rest
from deployments.printable_output import ArgumentParser, make_output_printable
from deployments.processes import ProcessError
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import (
    ServerAddress,
    client_environment,
    named_address,
    unusable_proxies,
)
from imaging.errors import NirflowError

logger = logging.getLogger(__name__)

#: A worker without a heartbeat for this long is unhealthy, s. It sends one every 30 s.
SILENCE: Final = 120.0
#: Variables for Prefect's own log lines, which go to the part's log and, those of runs, to the run's page.
_LOGGED: Final = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO", "PREFECT_LOGGING_COLORS": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PYTHONUNBUFFERED": "1",
}  # fmt: skip


def worker_command() -> list[str]:
    """Return the command of this machine's worker, which needs the environment of `part_environment`."""
    runs = Settings().worker.runs
    return [
        sys.executable, "-m", "deployments.supervisor.worker", "worker", "start", "--pool", POOL, "--type", "process",
        "--name", worker_name(), "--install-policy", "never", "--no-create-pool-if-not-found",
        *([] if runs is None else ["--limit", str(runs)]),
    ]  # fmt: skip


def part_environment(settings: Settings, address: ServerAddress) -> dict[str, str]:
    """Return the variables that a part of the service needs in addition to the settings, to use that server."""
    poll = {"PREFECT_WORKER_QUERY_SECONDS": f"{settings.worker.poll:g}"}
    refused = unusable_proxies(os.environ)
    if refused:
        logger.warning(
            "%s: runs do not use this proxy: the package that it needs is not installed",
            ", ".join(sorted(refused)),
        )
    return client_environment(address) | _LOGGED | poll | refused


def named_server(settings: Settings) -> ServerAddress:
    """Return the server that PREFECT_API_URL names.

    Raises
    ------
    ProcessError
        If it is not set.
    """
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        raise ProcessError(
            "No Prefect server is set.",
            remedy="Set PREFECT_API_URL, such as http://server:4210/api; without containers: nirflow up.",
        )
    return named_address(url, settings.server)


def main(arguments: list[str] | None = None) -> int:
    """Become the worker, or act on the options; return only if no other program is executed."""
    make_output_printable()
    parser = ArgumentParser(prog="python -m deployments.supervisor.command", description=__doc__)
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--register", action="store_true", help="register everything and exit")
    other.add_argument(
        "--check", action="store_true", help="exit with 0 if the server receives the worker's heartbeats"
    )
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = Settings()
        server = named_server(settings)
        rest = Rest(server.api_url, server.auth)
        if asked.check:
            return _check(rest)
        # This also reports a wrong server or password at once.
        rest.make_pool(POOL, settings.worker.limit)
    except NirflowError as error:
        logger.error("%s", error)
        return 1
    command = [sys.executable, "-m", "deployments.registry.register"] if asked.register else worker_command()
    os.execve(command[0], command, dict(os.environ) | part_environment(settings, server))


def _check(rest: Rest) -> int:
    silence = rest.seconds_since_heartbeat(POOL, worker_name())
    if silence is not None and silence < SILENCE:
        return 0
    last = "never" if silence is None else f"last {silence:.0f} s ago"
    logger.error("The last heartbeat of %r reached the server: %s", worker_name(), last)
    return 1


if __name__ == "__main__":
    sys.exit(main())

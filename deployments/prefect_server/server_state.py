"""The state file of the permanent Prefect server, and checks whether it is alive and responds."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from calib_store.private import write_private
from deployments import processes
from deployments.http_client import NoAnswerError, ask
from deployments.prefect_server import ports
from deployments.settings.server_settings import base_url

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerState:
    """The contents of the state file: enough to distinguish our server from a later process with the same id.

    Parameters
    ----------
    pid
        Process id.
    birth
        Boot id and start time in clock ticks since boot: no two processes share pid and birth.
    host, port
        The address at which it listens.
    wanted_port
        The port in the settings when it started.
    setup
        Digest of the other settings.
    closed
        Whether it requires a password and its port can be protected; False if an earlier nirflow started it.
    """

    pid: int
    birth: str
    host: str
    port: int
    wanted_port: int
    setup: str = ""
    closed: bool = False


#: Time for one response, s. A busy machine takes seconds; a server that is given up too early is killed, and the
#: events that it has in memory are lost.
_ANSWER: Final = 30.0


def is_alive(state: ServerState) -> bool:
    """Return whether its process is alive."""
    return processes.is_alive(state.pid, state.birth)


def keeps_port(state: ServerState) -> bool:
    """Return whether only this account can listen on its port until this process ends."""
    return not state.closed or ports.hold(state.host, state.port)


def keep_port_of(data_dir: Path, api_url: str) -> None:
    """Protect the port of a data folder's server from other accounts, if the API URL is that server's."""
    state = read_state(data_dir.expanduser().resolve() / "prefect")
    if state is not None and api_url == f"{base_url(state.host, state.port)}/api":
        keeps_port(state)


def answers(state: ServerState, timeout: float = 10.0) -> bool:
    """Return whether the server and its database respond, without sending a request to any other program."""
    if not keeps_port(state):
        return False
    url = f"{base_url(state.host, state.port)}/api/ready"
    try:
        return ask("GET", url, timeout=timeout, direct=True, read=False).status == HTTPStatus.OK
    except NoAnswerError:
        return False


def wait_until_ready(state: ServerState, deadline: float) -> bool:
    """Wait until it responds, ends, or the deadline (monotonic clock) passes; return whether it responds."""
    # The socket is listening from the beginning, so one request waits until the start is complete.
    while (left := deadline - time.monotonic()) > 0 and is_alive(state):
        if answers(state, timeout=min(left, _ANSWER)):
            return True
        time.sleep(processes.POLL)
    return False


def read_state(folder: Path) -> ServerState | None:
    """Read the state file in a folder; return None if it is missing or damaged."""
    try:
        return ServerState(**json.loads((folder / "server.json").read_text()))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, TypeError) as error:
        log.warning("%s is damaged and will be replaced: %s", folder / "server.json", error)
        return None


def write_state(folder: Path, state: ServerState) -> None:
    """Write the state file atomically."""
    write_private(folder / "server.json", json.dumps(asdict(state), indent=1), sync=False)

"""What is known about the Prefect server that stays: its state file, and whether it is there and answers."""

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
    """What the state file holds: enough to tell our server from a stranger with its process id.

    Parameters
    ----------
    pid
        Process id.
    birth
        Boot id and start time in clock ticks since boot: no two processes share pid and birth.
    host, port
        Where it listens.
    wanted_port
        The port that the settings asked for when it started.
    setup
        Digest of what else they asked for.
    closed
        Whether it asks for a password and its port can be kept from others; not so where an earlier nirflow started it.
    """

    pid: int
    birth: str
    host: str
    port: int
    wanted_port: int
    setup: str = ""
    closed: bool = False


#: Time for one answer, s. A busy machine takes seconds; a server that is given up too early is killed with the
#: events that it holds in memory.
_ANSWER: Final = 30.0


def is_alive(state: ServerState) -> bool:
    """Whether its process is there."""
    return processes.is_alive(state.pid, state.birth)


def keeps_port(state: ServerState) -> bool:
    """Whether nobody but this account listens on its port, from now on to the end of this process."""
    return not state.closed or ports.hold(state.host, state.port)


def keep_port_of(data_dir: Path, api_url: str) -> None:
    """Keep the port of a data folder's server from other accounts, where that is the server of the API."""
    state = read_state(data_dir.expanduser().resolve() / "prefect")
    if state is not None and api_url == f"{base_url(state.host, state.port)}/api":
        keeps_port(state)


def answers(state: ServerState, timeout: float = 10.0) -> bool:
    """Ask ``/api/ready``: the server answers and reaches its database; nobody else is asked."""
    if not keeps_port(state):
        return False
    url = f"{base_url(state.host, state.port)}/api/ready"
    try:
        return ask("GET", url, timeout=timeout, direct=True, read=False).status == HTTPStatus.OK
    except NoAnswerError:
        return False


def wait_until_ready(state: ServerState, deadline: float) -> bool:
    """Wait until it answers, it ends, or the deadline of the monotonic clock; whether it answers."""
    # The socket listens from the first moment on, so one request waits for as long as the start takes.
    while (left := deadline - time.monotonic()) > 0 and is_alive(state):
        if answers(state, timeout=min(left, _ANSWER)):
            return True
        time.sleep(processes.POLL)
    return False


def read_state(folder: Path) -> ServerState | None:
    """What the state file in a folder says; None where there is none, or a damaged one."""
    try:
        return ServerState(**json.loads((folder / "server.json").read_text()))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, TypeError) as error:
        log.warning("%s is damaged and will be replaced: %s", folder / "server.json", error)
        return None


def write_state(folder: Path, state: ServerState) -> None:
    """Write the state file; a reader sees the old one or the new one."""
    write_private(folder / "server.json", json.dumps(asdict(state), indent=1), sync=False)

"""The services of a deployment through a small night, from the first frame to the backup."""

from __future__ import annotations

import base64
import http.client
import json
import os
import time
import urllib.parse
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.containers.deployment import Deployment
from benchmarks.containers.small_nights import take_night

#: The services that stay, in the order in which they end.
STAYING: Final = ("judge", "watcher", "worker", "server", "postgres")
#: Folders that a service must not be able to write: its root file system, and what is mounted read-only.
_CLOSED: Final = {
    "postgres": ("/opt",), "server": ("/", "/opt/nirflow", "/nights"),
    "worker": ("/", "/opt/nirflow", "/etc", "/raw"), "watcher": ("/", "/raw"), "judge": ("/", "/raw"),
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a night gave, and what was seen of the services.

    Attributes
    ----------
    seconds
        Durations: until everything is healthy, from the last frame to the last product, a backup.
    kinds
        Kinds of the products, each as often as there are products of it.
    frames
        Names of the raw frames.
    night_files
        Names of the files in the folder of nights.
    backup_files
        Names of the files of the backup.
    verdicts
        The frames that the judge measured.
    written
        Folders that a service could write and should not.
    leaked
        Services with a password in their log or a command line.
    tracebacks
        Services with a traceback in their log.
    exit_codes
        Exit codes of the services when they were stopped.
    troubled
        Runs that ended otherwise than as planned, with their messages.
    """

    seconds: Mapping[str, float]
    kinds: tuple[str, ...]
    frames: tuple[str, ...]
    night_files: frozenset[str]
    backup_files: frozenset[str]
    verdicts: frozenset[str]
    written: tuple[str, ...]
    leaked: tuple[str, ...]
    tracebacks: tuple[str, ...]
    exit_codes: Mapping[str, int]
    troubled: tuple[str, ...] = field(default=())


def through_a_night(
    services: Deployment, began: float, look: Callable[[Deployment], None] = lambda services: None
) -> Outcome:  # fmt: skip
    """Start what stays, let a night arrive, take a backup and stop everything.

    Parameters
    ----------
    services
        Database and server are up.
    began
        When their start began, by the monotonic clock.
    look
        Called when the night is reduced and everything is up.
    """
    rooms = services.rooms
    for name in ("worker", "watcher", "judge"):
        services.start(name)
    services.wait_healthy("worker", "watcher", "judge")
    seconds = {"up": time.monotonic() - began}
    _make_backup_folder(services)
    frames = take_night(services.folder / "night", rooms.shared("raw"))
    arrived = time.monotonic()
    nights = rooms.shared("nights")
    services.wait(lambda: list(nights.glob("*/*_image.fits")), "the stack")
    services.wait(lambda: not services.unfinished(), "the last run")
    seconds["reduced"] = time.monotonic() - arrived
    verdicts = frozenset(services.wait(lambda: _judged(services, len(frames)), "the verdict on every frame"))
    written = tuple(
        f"{name}: {folder}" for name in _CLOSED for folder in _CLOSED[name] if _writes(services, name, folder)
    )
    lines = {name: " ".join(rooms.command_lines(name)) for name in STAYING}
    began = time.monotonic()
    services.run("backup")
    seconds["backup"] = time.monotonic() - began
    troubled, kinds = services.troubled(), tuple(sorted(one["kind"] for one in products_of(services)))
    look(services)
    exit_codes = {name: rooms.stop(name) for name in STAYING}
    logs = {name: rooms.rooms[name].log for name in STAYING}
    passwords = services.passwords()
    return Outcome(
        seconds=seconds, kinds=kinds, frames=tuple(frames),
        night_files=frozenset(path.name for path in nights.rglob("*")),
        backup_files=frozenset(path.name for path in rooms.shared("backup").rglob("*.fits")),
        verdicts=verdicts, written=written,
        leaked=tuple(name for name in STAYING if any(one in lines[name] + logs[name] for one in passwords)),
        tracebacks=tuple(name for name in STAYING if "Traceback" in logs[name]), exit_codes=exit_codes,
        troubled=tuple(troubled),
    )  # fmt: skip


def products_of(services: Deployment, worker: str = "worker") -> list[dict[str, Any]]:
    """Return the products of the store, as a worker sees them."""
    done = services.rooms.inside(worker, ["nirflow", "cal", "list", "--json"])
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _make_backup_folder(services: Deployment) -> None:
    """Make the folder of the backups, as the operator has to."""
    folder = services.rooms.shared("backup")
    user = services.workloads["backup"].user
    folder.mkdir()
    os.chown(folder, user, user)


def _judged(services: Deployment, expected: int) -> set[str]:
    """Return the names of the frames that the judge measured; none until it has measured so many."""
    records = services.rooms.shared("nights").glob("*/judged.json")
    names = {frame["name"] for path in records for frame in json.loads(path.read_text())["frames"]}
    return names if len(names) >= expected else set()


def _writes(services: Deployment, name: str, folder: str) -> bool:
    place = f"{folder.rstrip('/')}/written"
    return services.rooms.inside(name, ["/bin/sh", "-c", f": > {place}"]).returncode == 0


def page_of(services: Deployment, path: str, account: str = "viewer_auth") -> str:
    """Return a page of the server, after a login with an account's secret."""
    password = base64.b64encode(services.secret(account).encode()).decode()

    def ask(site: str) -> str:
        host = urllib.parse.urlsplit(site).netloc
        with closing(http.client.HTTPConnection(host, timeout=30)) as login:
            login.request("POST", "/nirflow/session", headers={"Authorization": f"Basic {password}"})
            cookie = (login.getresponse().getheader("Set-Cookie") or "").partition(";")[0]
        with closing(http.client.HTTPConnection(host, timeout=30)) as page:
            page.request("GET", path, headers={"Cookie": cookie})
            return page.getresponse().read().decode()

    return services.outside(ask)


def status_of(services: Deployment, authorization: str | None) -> int:
    """Return the status of the server's answer to a question about runs, with USER:PASSWORD or without."""
    headers = {"Content-Type": "application/json"}
    if authorization:
        headers["Authorization"] = f"Basic {base64.b64encode(authorization.encode()).decode()}"

    def ask(site: str) -> int:
        with closing(
            http.client.HTTPConnection(urllib.parse.urlsplit(site).netloc, timeout=30)
        ) as connection:
            connection.request("POST", "/api/flow_runs/filter", b"{}", headers)
            return connection.getresponse().status

    return services.outside(ask)

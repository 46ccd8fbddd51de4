"""What a file declares about one service, whichever format the file has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

#: The checkout.
ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mount:
    """A folder of a service.

    Attributes
    ----------
    target
        Path in the service.
    shared
        Name of what is mounted there and elsewhere too; empty for a folder that only this container has.
    writable
        Whether it may be written.
    options
        Options of a file system in memory (``uid=10001,gid=10001,mode=0700``), if they are declared.
    """

    target: str
    shared: str
    writable: bool
    options: str = field(default="", compare=False)


@dataclass(frozen=True)
class Check:
    """A health check: a command whose exit code counts, or a page of the service at a port."""

    command: tuple[str, ...] = ()
    page: tuple[int, str] | None = None


@dataclass(frozen=True)
class Workload:
    """One service: what runs in its container, and what it is given.

    Attributes
    ----------
    command
        Program and arguments; empty where the image has its own.
    environment
        Variables in addition to the image's.
    user, groups
        Numbers of the user, who has a group of the same number, and of further groups.
    mounts
        Folders, in the order of their paths.
    files
        Files of the checkout, by path in the service.
    secrets
        Secrets, by path in the service.
    networks
        Names of the networks that it takes part in.
    ports
        Ports at which it answers.
    init
        Whether a program that collects ended processes runs as the first one.
    guarded
        Whether the root file system is read-only, and the service has and gains no rights.
    grace
        Time between SIGTERM and SIGKILL, s.
    cpus, memory
        Limits: processors, GiB.
    copies_image
        Whether a new folder takes content and owner from the image's folder that it covers, as in Docker; in
        Kubernetes it is empty, and of root and the group of `user`.
    """

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    user: int
    groups: tuple[int, ...]
    mounts: tuple[Mount, ...]
    files: Mapping[str, str]
    secrets: Mapping[str, str]
    networks: frozenset[str]
    ports: tuple[int, ...]
    check: Check | None
    init: bool
    guarded: bool
    grace: float
    cpus: float
    memory: float
    copies_image: bool = field(default=True, compare=False)


def in_order(mounts: list[Mount]) -> tuple[Mount, ...]:
    """Return mounts such that a folder comes before those inside it."""
    return tuple(sorted(mounts, key=lambda one: one.target))

"""Networks of one machine: hosts in namespaces of their own, joined by bridges in another.

No address of this machine is used, and nothing leads out: the addresses are those that are reserved for documents.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

#: The first three bytes of the addresses of each network, in the order in which networks are first named.
_PREFIXES: Final = ("192.0.2", "198.51.100", "203.0.113")
_NAMESPACES: Final = Path("/run/netns")
_NETWORK: Final = 0x40000000  # CLONE_NEWNET


class Networks:
    """Networks by name, and the hosts in them."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex[:8]
        self._switch = f"nf-{self._mark}"
        self._names: list[str] = []
        self._hosts: dict[str, dict[str, str]] = {}
        self._numbers = itertools.count(1)
        self._ip("netns", "add", self._switch)

    def join(self, host: str, networks: Collection[str]) -> None:
        """Create a host that takes part in some networks."""
        space = self.namespace(host)
        self._ip("netns", "add", space)
        self._ip("-netns", space, "link", "set", "lo", "up")
        number = next(self._numbers)
        addresses = self._hosts[host] = {}
        for network in sorted(networks):
            here, there = f"h{self._index(network)}n{number}", f"eth{self._index(network)}"
            address = f"{_PREFIXES[self._index(network)]}.{number}"
            self._ip(
                "-netns",
                self._switch,
                "link",
                "add",
                here,
                "type",
                "veth",
                "peer",
                "name",
                there,
                "netns",
                space,
            )
            self._ip("-netns", self._switch, "link", "set", here, "master", f"br{self._index(network)}", "up")
            self._ip("-netns", space, "address", "add", f"{address}/24", "dev", there)
            self._ip("-netns", space, "link", "set", there, "up")
            addresses[network] = address

    def leave(self, host: str) -> None:
        """Remove a host, whose processes have ended."""
        self._hosts.pop(host)
        self._ip("netns", "delete", self.namespace(host))

    def hosts(self) -> list[str]:
        """Return the names of all hosts."""
        return list(self._hosts)

    def namespace(self, host: str) -> str:
        """Return the name of a host's namespace."""
        return f"nf-{self._mark}-{host}"

    def address(self, host: str, network: str = "inside") -> str:
        """Return a host's address in one of its networks."""
        return self._hosts[host][network]

    def known_to(self, host: str) -> dict[str, str]:
        """Return the addresses of the hosts in the same networks, by name."""
        mine = self._hosts[host]
        return {
            other: next(address for network, address in theirs.items() if network in mine)
            for other, theirs in self._hosts.items()
            if set(theirs) & set(mine)
        }

    def call(self, host: str, function: Callable[[], T]) -> T:
        """Return the result of a function whose sockets are those of a host."""
        outcome: list[T] = []
        failure: list[BaseException] = []

        def inside() -> None:
            try:
                self._enter(host)
                outcome.append(function())
            except BaseException as error:  # noqa: BLE001  # raised again by the caller
                failure.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def close(self) -> None:
        """Remove everything."""
        for host in list(self._hosts):
            self.leave(host)
        self._ip("netns", "delete", self._switch)

    def _enter(self, host: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(_NAMESPACES / self.namespace(host), os.O_RDONLY)
        try:
            if libc.setns(descriptor, _NETWORK):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), self.namespace(host))
        finally:
            os.close(descriptor)

    def _index(self, network: str) -> int:
        if network not in self._names:
            self._names.append(network)
            bridge = f"br{len(self._names) - 1}"
            self._ip("-netns", self._switch, "link", "add", bridge, "type", "bridge")
            self._ip("-netns", self._switch, "link", "set", bridge, "up")
        return self._names.index(network)

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

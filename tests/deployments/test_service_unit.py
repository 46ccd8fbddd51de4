"""The unit file for systemd: the restrictions of the service, and the rights that it needs."""

from __future__ import annotations

from configparser import RawConfigParser
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deployments" / "nirflow.service"


@pytest.fixture
def service() -> dict[str, str]:
    parser = RawConfigParser(strict=True)  # a duplicate key is an error
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read_string(UNIT.read_text())
    return dict(parser["Service"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UMask", "0077"),
        ("ProtectSystem", "strict"),
        ("PrivateDevices", "true"),
        ("NoNewPrivileges", "true"),
        ("ProtectKernelTunables", "true"),
        ("ProtectControlGroups", "true"),
        ("RestrictSUIDSGID", "true"),
        ("RestrictNamespaces", "true"),
        ("LockPersonality", "true"),
        ("SystemCallArchitectures", "native"),
    ],
)
def test_the_service_has_no_more_rights_than_it_needs(service: dict[str, str], name: str, value: str) -> None:
    assert service[name] == value


def test_it_can_only_reach_the_database_and_the_network(service: dict[str, str]) -> None:
    families = set(service["RestrictAddressFamilies"].split())
    assert families == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}


def test_it_keeps_the_rights_that_it_needs(service: dict[str, str]) -> None:
    """Its folders, the socket for commands in a shell, and numba's compiled code."""
    assert {"%h", "/tmp"} <= set(service["ReadWritePaths"].split())
    assert service["PrivateTmp"] == "false"
    assert service["MemoryDenyWriteExecute"] == "false"

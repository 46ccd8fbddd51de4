"""The unit file for systemd: what the service may not do, and what it must be able to."""

from __future__ import annotations

from configparser import RawConfigParser
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deployments" / "nirflow.service"


@pytest.fixture
def service() -> dict[str, str]:
    parser = RawConfigParser(strict=True)  # a key that is there twice is an error
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


def test_it_speaks_to_the_database_and_to_the_network_only(service: dict[str, str]) -> None:
    families = set(service["RestrictAddressFamilies"].split())
    assert families == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}


def test_what_it_needs_is_left_to_it(service: dict[str, str]) -> None:
    """Its folders, the socket that commands in a shell look for, and what numba compiles."""
    assert {"%h", "/tmp"} <= set(service["ReadWritePaths"].split())
    assert service["PrivateTmp"] == "false"
    assert service["MemoryDenyWriteExecute"] == "false"

"""The pinned packages and the least versions that pyproject.toml asks for: who installs without pins gets safe ones."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT: Final = Path(__file__).parents[1]
#: The first versions without the vulnerabilities that were known when they were last looked at (`make audit`).
SAFE: Final = {
    "aiohttp": "3.13.3", "distributed": "2026.1.0", "flask": "3.1.1", "flask-cors": "6.0.0", "h11": "0.16.0",
    "jinja2": "3.1.6", "pillow": "12.2.0", "pytest": "9.0.3", "starlette": "0.49.1",
}  # fmt: skip


def requirements() -> list[Requirement]:
    """What pyproject.toml asks for, with all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(text) for group in groups for text in group]
    return [one for one in found if one.name != "nirflow"]


def pins() -> Iterator[tuple[str, Version]]:
    """Each package of constraints.txt, perhaps several times: there are pins for each version of Python."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        pin = Requirement(line)
        (only,) = pin.specifier
        assert only.operator == "==", line
        yield canonicalize_name(pin.name), Version(only.version)


PINS: Final = list(pins())


@pytest.mark.parametrize("required", requirements(), ids=str)
def test_the_pin_is_what_pyproject_asks_for(required: Requirement) -> None:
    pinned = [version for name, version in PINS if name == canonicalize_name(required.name)]
    assert pinned, "it has no pin"
    assert [version for version in pinned if version not in required.specifier] == []


def floor(required: Requirement) -> Version | None:
    return max(
        (Version(one.version) for one in required.specifier if one.operator in (">=", "==")), default=None
    )


@pytest.mark.parametrize("name", SAFE)
def test_no_version_with_known_vulnerabilities_is_accepted(name: str) -> None:
    floors = [
        found for one in requirements() if canonicalize_name(one.name) == name and (found := floor(one))
    ]
    assert floors, f"pyproject.toml gives no least version of {name}"
    assert max(floors) >= Version(SAFE[name])
    assert all(version >= Version(SAFE[name]) for pinned, version in PINS if pinned == name)


def test_every_package_has_a_least_version_or_a_most_one() -> None:
    assert [str(one) for one in requirements() if not one.specifier] == []

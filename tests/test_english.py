"""The docstrings, comments and messages of the code, and of its tests, in plain English."""

from __future__ import annotations

from pathlib import Path

import pytest
from english import findings_in_module

ROOT = Path(__file__).parents[1]

#: Packages whose modules are checked, each with the folder of its tests; and what the tests share.
PACKAGES_DONE = {
    "calib_store": "tests/calib_store",
    "benchmarks": "tests/benchmarks",
    "deployments": "tests/deployments",
    "flows": "tests/flows",
    "nirflow": "tests/nirflow",
    "tasks": "tests/tasks",
    "tests/e2e": "tests/plugins",
}
#: The module with the list of what to avoid.
THE_LIST = ROOT / "tests" / "plugins" / "english.py"

MODULES = sorted(
    module
    for folders in PACKAGES_DONE.items()
    for folder in folders
    for module in (ROOT / folder).rglob("*.py")
    if module != THE_LIST
)


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("folder", [folder for folders in PACKAGES_DONE.items() for folder in folders])
def test_a_listed_folder_has_modules(folder: str) -> None:
    assert any(module.is_relative_to(ROOT / folder) for module in MODULES)


@pytest.mark.parametrize("module", MODULES, ids=_id)
def test_the_texts_of_a_module_avoid_the_listed_words(module: Path) -> None:
    found = findings_in_module(module.read_text(encoding="utf-8"))
    assert not found, "\n".join(f"{_id(module)}, {one}" for one in found)


def test_docstrings_comments_and_messages_are_checked_and_names_are_not() -> None:
    source = '''"""A module.

It tells nothing.
"""

told = {"words": 1}
raise ValueError(f"{told} makes no sense")  # said once
'''
    found = [(one.line, one.found) for one in findings_in_module(source)]
    assert found == [(3, "tells"), (7, "said"), (7, "makes no sense")]

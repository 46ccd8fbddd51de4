"""The docstrings, comments and messages of the code, and of its tests, in plain English."""

from __future__ import annotations

from pathlib import Path

import pytest
from english import FOLDERS, findings_in_module

ROOT = Path(__file__).parents[1]

#: The module with the list of what to avoid, and the tests of that list.
LISTS = {
    ROOT / "tests" / "plugins" / "english.py",
    ROOT / "tests" / "docs" / "test_english.py",
    Path(__file__),
}
MODULES = sorted(
    module for folder in FOLDERS for module in (ROOT / folder).rglob("*.py") if module not in LISTS
)


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_has_modules(folder: str) -> None:
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

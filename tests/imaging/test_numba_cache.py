"""Kernels work where their compiled form can be kept nowhere, and are compiled again when what they use changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import imaging
from numba.core import caching
{change}
from kernels import add
print(add(1, 2), add(1.5, 2.5))
"""
_NOWHERE = "caching.CacheImpl._locator_classes = []"
_FULL = """
def full(self, *_):
    raise OSError(28, "No space left on device")
caching.IndexDataCacheFile.save = full
"""
_DAMAGED = """
def damaged(self, *_):
    raise EOFError
caching.IndexDataCacheFile.load = damaged
"""


@pytest.mark.parametrize("change", [_NOWHERE, _FULL, _DAMAGED], ids=["nowhere", "full disk", "damaged"])
def test_a_kernel_without_a_cache_is_compiled(tmp_path: Path, change: str) -> None:
    (tmp_path / "kernels.py").write_text(
        "from numba import njit\n\n\n@njit(cache=True)\ndef add(a, b):\n    return a + b\n"
    )
    (tmp_path / "program.py").write_text(_PROGRAM.format(change=change))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("3 4.0\n", "")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("other.py", "from numba import njit\n\n\n@njit(cache=True)\ndef twice(a):\n    return 3 * a\n"),
        ("constants.py", "LIMIT = 100\n"),
    ],
    ids=["another kernel", "a constant"],
)
def test_a_kernel_is_compiled_again_when_something_that_it_uses_changes(
    tmp_path: Path, file: str, text: str
) -> None:
    (tmp_path / "constants.py").write_text("LIMIT = 10\n")
    (tmp_path / "other.py").write_text(
        "from numba import njit\n\n\n@njit(cache=True)\ndef twice(a):\n    return 2 * a\n"
    )
    (tmp_path / "kernels.py").write_text(
        "from constants import LIMIT\nfrom numba import njit\nfrom other import twice\n\n\n"
        "@njit(cache=True)\ndef add(a):\n    return twice(a) + LIMIT\n"
    )
    (tmp_path / "program.py").write_text(
        "import imaging\nfrom kernels import add\n\nprint(add(1), sum(add.stats.cache_hits.values()))\n"
    )

    def answer() -> str:
        command = [sys.executable, str(tmp_path / "program.py")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert answer() == "12 0"
    assert answer() == "12 1"
    (tmp_path / file).write_text(text)
    assert answer() == {"other.py": "13 0", "constants.py": "102 0"}[file]

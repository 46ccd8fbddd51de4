"""Kernels work where their compiled form can be kept nowhere."""

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

"""One thread for the matrix products of numpy and scipy, unless the environment asks for more.

The matrices here have a hundred columns. OpenBLAS would divide even their products among threads, which then wait for
the next one in a loop that takes as much processor time as the work itself.
"""

from __future__ import annotations

import os
from typing import Final

#: Read by OpenBLAS once, when numpy is imported.
_VARIABLE: Final = "OPENBLAS_NUM_THREADS"


def limit_blas_threads() -> None:
    """Ask OpenBLAS for one thread; without effect if numpy is imported already, or the environment names a number."""
    os.environ.setdefault(_VARIABLE, "1")

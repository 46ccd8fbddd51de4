"""A run that finds its products in the store is mostly imports: what only a build needs is imported late."""

from __future__ import annotations

import subprocess
import sys

LATE = {
    "scipy.stats", "scipy.ndimage", "scipy.spatial", "scipy.special", "scipy.optimize",
    "astropy.wcs", "astropy.table", "astropy.nddata", "PIL", "ccdproc", "sep", "alembic",
}  # fmt: skip


def test_a_flow_imports_only_what_every_run_needs() -> None:
    code = "import sys, flows.night; print(*sys.modules)"
    reported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(reported.stdout.split())
    assert {"tasks.detrend", "tasks.stack"} <= modules
    assert not LATE & modules

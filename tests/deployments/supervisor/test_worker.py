"""The worker's program."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import signal
import tasks.prefect_internals.server_application as application
from deployments.supervisor import worker

application.run_prefect_command = lambda: print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
worker.main()
"""


def test_a_worker_that_a_shell_started_in_the_background_can_be_stopped() -> None:
    done = subprocess.run(
        ["env", "--ignore-signal=INT", sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "True"

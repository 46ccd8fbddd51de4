"""The worker of this machine: ``python -m deployments.supervisor.worker worker start ...``.

It is Prefect's process worker with the corrections of `tasks.prefect_internals.process_worker`.
"""

from __future__ import annotations

import os
import signal

from deployments.prefect_server.server_state import keep_port_of
from deployments.printable_output import make_output_printable
from deployments.settings.all_settings import Settings


def main() -> None:
    """Run Prefect's command line with our process worker."""
    # At SIGTERM Prefect interrupts itself by SIGINT, which a shell makes its programs in the background ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    make_output_printable()
    import tasks.prefect_internals.process_worker  # noqa: F401  # replaces Prefect's own
    from tasks.prefect_internals.server_application import run_prefect_command

    # The worker sends the password with every poll, even while the server is down.
    keep_port_of(Settings().data_dir, os.environ.get("PREFECT_API_URL", ""))
    run_prefect_command()


if __name__ == "__main__":
    main()

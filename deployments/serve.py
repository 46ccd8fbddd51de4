"""The server process itself: ``python -m deployments.serve`` detaches, then serves Prefect's API and UI.

Started by `deployments.server.ensure_server`, which binds the socket and hands it over: the port is ours
before Prefect's two seconds of imports begin. Prints the server's process id and leaves.
"""

from __future__ import annotations

import argparse
import gc
import os
import socket
import sys

KEEP_ALIVE = 75  # s; longer than a pause between two requests of a flow
GRACEFUL = 4  # s; a UI left open holds its websockets for ever


def main(arguments: list[str] | None = None) -> int:
    """Detach from the caller, then serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m deployments.serve", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="file descriptor of the bound socket")
    descriptor = parser.parse_args(arguments).fd
    # The caller may live for months (a worker, a notebook): as a child of init the server never becomes
    # its zombie. Forking here is safe: one thread, nothing imported.
    if child := os.fork():
        sys.stdout.write(f"{child}\n")
        return 0
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the caller waits for the end of its pipe
    _serve(descriptor)
    return 0


def _serve(descriptor: int) -> None:
    gc.disable()  # a quarter of the start is the collector walking classes that stay for good
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(final=True)
    gc.collect()
    gc.freeze()
    gc.enable()
    level = os.environ.get("PREFECT_SERVER_LOGGING_LEVEL", "WARNING").lower()
    config = uvicorn.Config(
        app, timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=GRACEFUL, log_level=level
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    sys.exit(main())

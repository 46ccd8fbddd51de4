"""The server process itself, Prefect's API and UI: ``python -m deployments.prefect_server.serve``.

With ``--fd`` it detaches: `deployments.prefect_server.server.ensure_server` binds the socket and passes it on, so the
port is ours before Prefect's two seconds of imports begin. It prints the server's process id and exits.
With ``--bind HOST:PORT`` it stays in the foreground, with the settings as they are: for a container.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from zoneinfo import ZoneInfo

from deployments.printable_output import ArgumentParser, make_output_printable
from imaging.printable import printable_lines

KEEP_ALIVE = 75  # s; longer than a pause between two requests of a flow
GRACEFUL = 4  # s; a UI left open keeps its WebSockets open forever


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM, detached or in the foreground."""
    make_output_printable()
    parser = ArgumentParser(prog="python -m deployments.prefect_server.serve", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int, help="file descriptor of the bound socket; detaches")
    parser.add_argument("--after", type=int, help="file descriptor that ends when the database is up")
    where.add_argument("--bind", metavar="HOST:PORT", type=_place, help="stay in the foreground")
    asked = parser.parse_args(arguments)
    return _foreground(*asked.bind) if asked.bind else _detached(asked.fd, asked.after)


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 0.0.0.0:4210")
    return host.strip("[]"), int(port)


def _detached(descriptor: int, after: int | None) -> int:
    # The caller may run for months (a worker, a notebook): as a child of init the server never becomes
    # its zombie. Forking is safe here: there is one thread, and nothing is imported.
    if child := os.fork():
        sys.stdout.write(f"{child}\n")
        return 0
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the caller waits for the end of its pipe
    from deployments.prefect_server.ports import hold_twin

    listener = socket.socket(fileno=descriptor)
    host, port, *_ = listener.getsockname()
    hold_twin(host, port)  # as the caller does, until it exits
    _serve(listener, after)
    return 0


def _foreground(host: str, port: int) -> int:
    from calib_store.private import private_folder
    from deployments.prefect_server import ports
    from deployments.prefect_server.server import check_password, database_url_of, with_password
    from deployments.settings.all_settings import Settings
    from deployments.settings.server_settings import server_environment
    from imaging.errors import NirflowError

    try:
        settings = Settings()
        ours = settings.server.model_copy(update={"host": host, "port": port})
        check_password(ours)
        home = settings.data_dir.expanduser().resolve() / "prefect"
        private_folder(home)
        ours = with_password(ours, settings.data_dir)
        url = database_url_of(settings.data_dir, ours)
        listener = ports.listen(host, port)
    except (NirflowError, OSError) as error:
        sys.stderr.write(f"{printable_lines(str(error))}\n")
        return 1
    port = listener.getsockname()[1]
    environment = server_environment(ours, home=home, port=port, database_url=url)
    os.environ.clear()
    os.environ.update(environment)  # before Prefect is imported, which reads it once
    os.chdir(home)  # Prefect would read a stray .env or prefect.toml elsewhere
    # At SIGTERM uvicorn shuts down and raises the signal again for the previous handler, which exits.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    sys.stderr.write(f"The Prefect server is listening on {host}:{port}\n")
    _serve(listener)
    return 0


def _serve(listener: socket.socket, after: int | None = None) -> None:
    gc.disable()  # the collector would take a quarter of the start, on permanent classes
    import uvicorn

    import deployments.prefect_server.notify  # noqa: F401  # the server sends notifications with this block
    from deployments.access.login import put_script
    from deployments.notices.outbox import keep_delivering
    from deployments.prefect_api.run_names import queued_name
    from deployments.prefect_server.application import closed
    from deployments.settings.all_settings import Settings
    from tasks.prefect_internals.named_runs import name_runs
    from tasks.prefect_internals.server_application import prefect_application
    from tasks.prefect_internals.server_clients import give_password

    give_password()
    # Notices are kept in the data folder of this server, whatever the default.
    os.environ["NIRFLOW_DATA_DIR"] = str(Path(os.environ["PREFECT_HOME"]).parent)
    settings = Settings()
    arguments = (settings, threading.Event())
    threading.Thread(target=keep_delivering, args=arguments, name="notices", daemon=True).start()
    zone = ZoneInfo(settings.nightly.timezone)
    name_runs(lambda deployment, parameters, due: queued_name(deployment, parameters, due, zone))
    app = closed(prefect_application(), os.environ)
    put_script(Path(os.environ["PREFECT_SERVER_UI_STATIC_DIRECTORY"]))
    gc.collect()
    gc.freeze()
    gc.enable()
    if after is not None:
        with open(after, "rb") as pipe:  # noqa: PTH123  # a descriptor
            pipe.read()
    level = os.environ.get("PREFECT_SERVER_LOGGING_LEVEL", "WARNING").lower()
    config = uvicorn.Config(
        app, timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=GRACEFUL, log_level=level
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())

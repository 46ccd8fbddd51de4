"""``nirflow server``: the Prefect server that keeps the record of runs and serves the UI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from imaging.printable import printable
from nirflow.console.output import print_lines
from nirflow.console.tables import print_json
from nirflow.exits import Exit

app = typer.Typer(
    help="The Prefect server of runs and its UI; reduce starts it if needed.", no_args_is_help=True
)

RoleName = Literal["viewer", "operator", "owner"]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@app.command()
def start(json: Json = False) -> None:
    """Start the server if it is not running, and leave it running."""
    from deployments.prefect_server.server import ensure_server
    from deployments.settings.all_settings import Settings

    address = ensure_server(Settings().data_dir)
    if json:
        result = {
            "started": address.started,
            "pid": address.pid,
            "api": address.api_url,
            "ui": address.ui_url,
        }
        print_json(result)
        return
    opening = "Started" if address.started else "Already running"
    process = f" (process {address.pid})" if address.pid else ""
    login = " To log in: nirflow server login" if address.pid else ""
    print_lines(f"{opening}{process}. Runs and logs: {address.ui_url}{login}")


@app.command()
def stop(
    keep_database: Annotated[
        bool, typer.Option("--keep-database", help="Leave the embedded PostgreSQL running.")
    ] = False,
) -> None:
    """Stop the server, and the embedded PostgreSQL used by it and the store. Their data is kept."""
    from calib_store.server import postgres
    from deployments.prefect_server.server import stop_server
    from deployments.settings.all_settings import Settings

    data_dir = Settings().data_dir
    stopped = stop_server(data_dir)
    print_lines("Stopped the Prefect server." if stopped else "No Prefect server was running.")
    if not keep_database and data_dir.is_dir() and postgres.stop(data_dir):
        print_lines("Stopped the embedded PostgreSQL.")


@app.command()
def status(json: Json = False) -> None:
    """Show whether the server is running. Exit code 3 if it is not."""
    from deployments.prefect_server.server import server_status
    from deployments.settings.all_settings import Settings

    state = server_status(Settings().data_dir)
    if json:
        print_json(
            {
                "running": state.running,
                "ready": state.ready,
                "pid": state.pid,
                "api": state.api_url,
                "ui": state.ui_url,
                "log": state.log_file,
            }
        )
    elif not state.running:
        print_lines("No server is running. Start it with: nirflow server start")
    else:
        ready = "ready" if state.ready else "starting, or its database is down"
        print_lines(
            f"Process {state.pid}, {ready}. Runs and logs: {state.ui_url}", f"Log file: {state.log_file}"
        )
        print_lines("Log in: nirflow server login prints a link")
    if not state.ready:
        raise typer.Exit(Exit.NOTHING)


@app.command()
def login(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Data folder of the server. Default: NIRFLOW_DATA_DIR."),
    ] = None,
    role: Annotated[
        RoleName,
        typer.Option(
            "--role",
            help="viewer: read only; operator: also start runs and decide about products; owner: everything.",
        ),
    ] = "owner",
    json: Json = False,
) -> None:
    """Print a link that logs a browser in to the UI, and the password. Exit code 3 if no server is running.

    This creates the password of a viewer or an operator if the settings have none. Give the link only to its
    user: it contains the password after the #, which a browser does not send to any server.
    """
    from deployments.access import credentials
    from deployments.access.login import link
    from deployments.access.policy import Role
    from deployments.prefect_server.server import own_address
    from deployments.settings.all_settings import Settings

    settings = Settings()
    address = own_address(data or settings.data_dir, settings.server)
    if address is None:
        print_lines("No server is running. Start it with: nirflow server start", err=True)
        raise typer.Exit(Exit.NOTHING)
    if address.auth is None:  # started by an earlier version of nirflow
        print_lines(f"The server requires no password; nirflow up restarts it with one. UI: {address.ui_url}")
        return
    auth = address.auth
    if role != "owner":
        auth = credentials.ensure(data or settings.data_dir, settings.server, Role[role.upper()])
    user, _, password = auth.partition(":")
    access = {"link": link(address.ui_url, auth), "ui": address.ui_url, "user": user, "password": password}
    if json:
        print_json(access)
        return
    print_lines(
        f"Open:     {access['link']}",
        f"UI:       {address.ui_url}",
        f"User:     {user}",
        f"Password: {password}",
    )


@app.command()
def revoke(
    role: Annotated[Literal["viewer", "operator"], typer.Option("--role", help="Whose password.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Data folder of the server. Default: NIRFLOW_DATA_DIR."),
    ] = None,
) -> None:
    """Revoke the password that login created for viewers or operators; a running server rejects it at
    once.
    """
    from deployments.access import credentials
    from deployments.access.policy import Role
    from deployments.settings.all_settings import Settings

    settings = Settings()
    there = credentials.revoke(data or settings.data_dir, settings.server, Role[role.upper()])
    print_lines(f"The {role}'s password is revoked." if there else f"No password of a {role} exists.")
    if not there:
        raise typer.Exit(Exit.NOTHING)


@app.command()
def env() -> None:
    """Print the variables that connect Prefect's own commands to this server: eval "$(nirflow server
    env)".
    """
    from deployments.prefect_server.server import ensure_server
    from deployments.settings.all_settings import Settings
    from deployments.settings.server_settings import client_environment, unusable_proxies

    environment = client_environment(ensure_server(Settings().data_dir)) | unusable_proxies(os.environ)
    # Prefect's own commands are interactive: they may write to the terminal.
    del environment["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"]
    for name, value in environment.items():
        print_lines(f"export {name}={_quoted(value)}")


def _quoted(value: str) -> str:
    """Quote a value for the shell; write an unprintable one by its bytes, as bash, zsh and ksh read them."""
    import shlex

    if printable(value) == value:
        return shlex.quote(value)
    return "$'" + "".join(f"\\x{byte:02x}" for byte in os.fsencode(value)) + "'"

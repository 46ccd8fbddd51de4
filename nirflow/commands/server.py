"""``nirflow server``: the Prefect server that keeps the record of runs and serves the UI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from imaging.printable import printable
from nirflow.console.output import say
from nirflow.console.tables import print_json
from nirflow.exits import Exit

app = typer.Typer(
    help="The Prefect server of runs and its UI: reduce starts it where it is not up.", no_args_is_help=True
)

RoleName = Literal["viewer", "operator", "owner"]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@app.command()
def start(json: Json = False) -> None:
    """Start the server, where it is not up, and leave it running."""
    from deployments.prefect_server.server import ensure_server
    from deployments.settings.all_settings import Settings

    address = ensure_server(Settings().data_dir)
    if json:
        told = {"started": address.started, "pid": address.pid, "api": address.api_url, "ui": address.ui_url}
        print_json(told)
        return
    word = "Started" if address.started else "Already up"
    process = f" (process {address.pid})" if address.pid else ""
    login = " To log in: nirflow server login" if address.pid else ""
    say(f"{word}{process}. Runs and logs: {address.ui_url}{login}")


@app.command()
def stop(
    keep_database: Annotated[
        bool, typer.Option("--keep-database", help="Leave the embedded PostgreSQL running.")
    ] = False,
) -> None:
    """Stop the server, and the embedded PostgreSQL under it and the store. What they hold stays."""
    from calib_store.server import postgres
    from deployments.prefect_server.server import stop_server
    from deployments.settings.all_settings import Settings

    data_dir = Settings().data_dir
    stopped = stop_server(data_dir)
    say("Stopped the Prefect server." if stopped else "No Prefect server was running.")
    if not keep_database and data_dir.is_dir() and postgres.stop(data_dir):
        say("Stopped the embedded PostgreSQL.")


@app.command()
def status(json: Json = False) -> None:
    """Tell whether the server is up. Exit code 3 where it is not."""
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
        say("No server is running. Start it with: nirflow server start")
    else:
        ready = "up" if state.ready else "starting, or its database is down"
        say(f"Process {state.pid}, {ready}. Runs and logs: {state.ui_url}", f"Log file: {state.log_file}")
        say("Log in: nirflow server login prints a link")
    if not state.ready:
        raise typer.Exit(Exit.NOTHING)


@app.command()
def login(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Data folder of the server. NIRFLOW_DATA_DIR without."),
    ] = None,
    role: Annotated[
        RoleName,
        typer.Option(
            "--role",
            help="viewer looks, operator also starts runs and decides about products, owner does everything.",
        ),
    ] = "owner",
    json: Json = False,
) -> None:
    """Print a link that logs a browser in to the UI, and the password. Exit code 3 where no server is up.

    The password of a viewer or an operator is made by this, where the settings have none. Give the link only to whom
    it is for: it holds the password, behind its #, which a browser sends to no server.
    """
    from deployments.access import credentials
    from deployments.access.login import link
    from deployments.access.policy import Role
    from deployments.prefect_server.server import own_address
    from deployments.settings.all_settings import Settings

    settings = Settings()
    address = own_address(data or settings.data_dir, settings.server)
    if address is None:
        say("No server is running. Start it with: nirflow server start", err=True)
        raise typer.Exit(Exit.NOTHING)
    if address.auth is None:  # an earlier nirflow started it
        say(f"The server asks for no password; nirflow up starts it again with one. UI: {address.ui_url}")
        return
    auth = address.auth
    if role != "owner":
        auth = credentials.ensure(data or settings.data_dir, settings.server, Role[role.upper()])
    user, _, word = auth.partition(":")
    told = {"link": link(address.ui_url, auth), "ui": address.ui_url, "user": user, "password": word}
    if json:
        print_json(told)
        return
    say(f"Open:     {told['link']}", f"UI:       {address.ui_url}", f"User:     {user}", f"Password: {word}")


@app.command()
def revoke(
    role: Annotated[Literal["viewer", "operator"], typer.Option("--role", help="Whose password.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Data folder of the server. NIRFLOW_DATA_DIR without."),
    ] = None,
) -> None:
    """Take back the password that login made for viewers or operators; a running server forgets it at once."""
    from deployments.access import credentials
    from deployments.access.policy import Role
    from deployments.settings.all_settings import Settings

    settings = Settings()
    there = credentials.revoke(data or settings.data_dir, settings.server, Role[role.upper()])
    say(f"The {role}'s password is revoked." if there else f"There is no password of a {role}.")
    if not there:
        raise typer.Exit(Exit.NOTHING)


@app.command()
def env() -> None:
    """Print what brings Prefect's own commands to this server: eval "$(nirflow server env)"."""
    from deployments.prefect_server.server import ensure_server
    from deployments.settings.all_settings import Settings
    from deployments.settings.server_settings import client_environment

    environment = client_environment(ensure_server(Settings().data_dir))
    # Prefect's own commands are for people: they may write to the terminal.
    del environment["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"]
    for name, value in environment.items():
        say(f"export {name}={_quoted(value)}")


def _quoted(value: str) -> str:
    """Quote a value for the shell; one that cannot be printed by its bytes, as bash, zsh and ksh read them."""
    import os
    import shlex

    if printable(value) == value:
        return shlex.quote(value)
    return "$'" + "".join(f"\\x{byte:02x}" for byte in os.fsencode(value)) + "'"

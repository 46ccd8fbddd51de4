"""``nirflow up``, ``down``, ``status`` and ``settings``: the unattended service."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from nirflow.console.output import console, print_lines
from nirflow.console.tables import Column, print_json, print_table
from nirflow.exits import Exit

if TYPE_CHECKING:
    from deployments.prefect_api.rest import Rest
    from deployments.settings.all_settings import Settings
    from deployments.supervisor.service import PartState, ServiceState

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data folder: database, products, logs. Default: NIRFLOW_DATA_DIR."),
]  # fmt: skip


def up(
    watch: Annotated[
        list[Path] | None,
        typer.Option("--watch", metavar="DIR", help="Folder in which raw frames arrive. Repeatable."),
    ] = None,
    data: Data = None,
    bind: Annotated[
        str | None,
        typer.Option(
            "--bind",
            metavar="ADDR",
            help="Address on which the UI listens: 0.0.0.0 to allow other machines.",
        ),
    ] = None,
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground", help="Stay in the foreground and stop everything at SIGTERM, for systemd."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Start everything: databases, Prefect server and UI, worker, schedules, and the watcher of new frames.

    Parts that are already running are left as they are. nirflow up --watch /data/raw
    """
    from deployments.prefect_server.server import check_password

    settings = _settings(watch, data, bind)
    check_password(settings.server)
    if foreground:
        raise typer.Exit(_stay(settings))
    from deployments.supervisor.service import start

    began = time.monotonic()
    with console(stderr=True).status("Starting: databases, Prefect server, worker ..."):
        state, started = start(settings)
    seconds = time.monotonic() - began
    if json:
        print_json({**state.model_dump(mode="json"), "started": started, "seconds": round(seconds, 1)})
        return
    print_lines(f"Up after {seconds:.0f} s." if started else f"Already up (process {state.pid}).")
    if not started and (asked := _differs(state, settings)):
        print_lines(f"It was started with {asked}. To change that: nirflow down, then up again.")
    print_lines(f"UI:      {state.ui_url}")
    print_lines(f"Log in:  {_login(data)} prints a link")
    if (port := urlsplit(state.api_url).port) != settings.server.port and started:
        print_lines(
            f"         Port {settings.server.port} is taken: it listens on {port} until the next nirflow up."
        )
    index = state.nights / "index.html"
    print_lines(f"Nights:  {index}" + ("" if index.is_file() else " (after the first run)"))
    there = [str(folder) if folder.is_dir() else f"{folder} (does not exist yet)" for folder in state.watched]
    watched = ", ".join(there) or "nothing (nirflow up --watch DIR)"
    print_lines(f"Watched: {watched}")
    print_lines(f"Logs:    {_logs(state)}")
    print_lines("Stop it: nirflow down" + _option(data))


def down(data: Data = None) -> None:
    """Stop everything that nirflow up started. The store is kept; a run in progress continues at the next
    up.
    """
    from deployments.supervisor.service import stop

    settings = _settings(None, data, None)
    if stop(settings):
        print_lines("Stopped.")
        return
    print_lines("nirflow was not up.")


def status(data: Data = None, json: Json = False) -> None:
    """Show the state of each part and the runs in progress. Exit code 3 if nirflow is not up, 4 if a part is
    down.
    """
    from deployments.supervisor.service import read_state

    settings = _settings(None, data, None)
    state = read_state(settings)
    alive = state is not None and state.alive
    runs, why = _runs(settings, state) if state is not None and alive else ([], "")
    if json:
        print_json({"up": alive, "runs": runs, **(state.model_dump(mode="json") if state else {})})
    elif state is None or not alive:
        print_lines("nirflow is not up. Start it: nirflow up --watch DIR")
    else:
        _print_status(state, runs, why, _login(data))
    if state is None or not alive:
        raise typer.Exit(Exit.NOTHING)
    if not state.ready or not all(part.alive for part in state.parts):
        raise typer.Exit(Exit.PARTIAL)


def settings(json: Json = False) -> None:
    """List every setting: its value, where it came from, and its variable.

    Settings come from the environment (NIRFLOW_NAME, NIRFLOW_SECTION_NAME), then from nirflow.toml: the file
    that NIRFLOW_CONFIG names, else the one in the working folder, else ~/.config/nirflow/nirflow.toml.
    """
    from calib_store.model.settings import settings_file
    from deployments.settings.all_settings import Settings, describe

    listed = list(describe(Settings()))
    if json:
        print_json(
            {one.name: {"value": _plain(one.value), "source": one.source, "variable": one.variable} for one in listed}
        )  # fmt: skip
        return
    file = settings_file()
    print_lines(f"Settings file: {file or 'none'}")
    columns = [
        Column("setting", style="bold", fold=True), Column("value", fold=True), Column("from", fold=True),
        Column("meaning", fold=True),
    ]  # fmt: skip
    rows: list[list[object]] = [
        [one.name, _plain(one.value), "file" if one.source == str(file) else one.source, one.description]
        for one in listed
    ]
    print_table(columns, rows)


def _settings(watch: list[Path] | None, data: Path | None, bind: str | None) -> Settings:
    """Return the settings, overridden by the command line."""
    from calib_store.model.settings import WrongSettingsError
    from deployments.settings.all_settings import Settings
    from nirflow.request import require_text

    if data is not None:
        os.environ["NIRFLOW_DATA_DIR"] = str(data.expanduser().resolve())
    known = Settings()
    changes: dict[str, Any] = {}
    if watch:
        require_text(*watch)
        for folder in watch:
            if not folder.expanduser().is_dir():
                raise WrongSettingsError(
                    f"--watch {folder}: no such folder.", remedy="Create it, or correct the path."
                )
        folders = tuple(folder.expanduser().resolve() for folder in watch)
        changes["watch"] = known.watch.model_copy(update={"folders": folders})
    if bind is not None:
        changes["server"] = known.server.model_copy(update={"host": bind})
    return known.model_copy(update=changes)


def _stay(settings: Settings) -> int:
    import logging
    import sys

    from deployments.processes import ProcessError
    from deployments.supervisor.service import end_left_over, environment_of, read_state
    from deployments.supervisor.supervise import supervise

    state = read_state(settings)
    if state is not None and state.alive:
        raise ProcessError(f"nirflow is already up (process {state.pid}).", remedy="Stop it: nirflow down")
    end_left_over(state)
    os.environ.update(environment_of(settings))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    return supervise(settings)


def _login(data: Path | None) -> str:
    return "nirflow server login" + _option(data)


def _option(data: Path | None) -> str:
    return f" --data {data}" if data else ""


def _differs(state: ServiceState, settings: Settings) -> str:
    options = []
    if settings.watch.folders and state.watched != settings.watch.folders:
        options.append(f"--watch {' '.join(map(str, state.watched)) or '(nothing)'}")
    if state.host != settings.server.host:
        options.append(f"--bind {state.host}")
    return " and ".join(filter(None, (" ".join(options), _other_server(state, settings))))


def _other_server(state: ServiceState, settings: Settings) -> str:
    """Describe how the running server's options differ from the settings, except its address; empty if they
    agree.
    """
    from deployments.prefect_server.server import has_other_settings

    if password := _other_password(state, settings):
        return password
    if has_other_settings(settings.data_dir, settings.server):
        return "other settings of the Prefect server (passwords of the roles, notify, ...), which still apply"
    return ""


def _other_password(state: ServiceState, settings: Settings) -> str:
    """Describe how the server's password differs from that of the settings; empty if they agree."""
    from deployments.prefect_api.rest import PasswordError, RestError
    from deployments.prefect_server.ports import PortTakenError

    if not state.password:
        return "no password"
    try:
        _rest(settings, state).runs(["RUNNING"], limit=1)
    except PasswordError:
        return "another password"
    except (RestError, PortTakenError):
        pass
    return ""


def _rest(settings: Settings, state: ServiceState) -> Rest:
    """Return a client of the server, whose port is held while this command runs: no other program gets the
    password.
    """
    from deployments.access.password import known
    from deployments.prefect_api.rest import Rest
    from deployments.prefect_server.ports import hold_url

    if not state.password:  # an earlier nirflow started it
        return Rest(state.api_url, settings.server.auth_string)
    hold_url(state.api_url)
    return Rest(state.api_url, known(settings.data_dir, settings.server))


def _logs(state: ServiceState) -> str:
    return str(next((part.log.parent for part in state.parts if part.log is not None), ""))


def _runs(settings: Settings, state: ServiceState) -> tuple[list[dict[str, Any]] | None, str]:
    """Return the runs in progress; None and the reason if the server does not report them."""
    from deployments.prefect_api.rest import RestError
    from deployments.prefect_server.ports import PortTakenError

    if not state.api_url:
        return None, "The Prefect server has no address yet."
    try:
        rest = _rest(settings, state)
        found = rest.runs(["RUNNING", "PENDING", "PAUSED", "CANCELLING"])
        found += rest.runs(["SCHEDULED"], due=True)
    except (RestError, PortTakenError) as error:
        return None, str(error)
    return [
        {"name": run["name"], "state": run["state_name"], "since": run["start_time"]} for run in found
    ], ""


def _print_status(state: ServiceState, runs: list[dict[str, Any]] | None, why: str, login: str) -> None:
    since = datetime.fromtimestamp(state.started).astimezone()
    condition = "up" if state.ready else "starting"
    print_lines(
        f"nirflow is {condition} (process {state.pid}) since {since:%Y-%m-%d %H:%M}. UI: {state.ui_url}"
    )
    if state.password:
        print_lines(f"Log in: {login} prints a link")
    columns = [
        Column("part"), Column("state"), Column("process", "right"), Column("restarts", "right"),
        Column("", fold=True),
    ]  # fmt: skip
    print_table(columns, [_part_row(part) for part in state.parts])
    for run in runs or ():
        print_lines(f"{run['state']}: {run['name']}")
    if runs is None:
        print_lines(f"The runs in progress are not known. {why}")
    elif not runs:
        print_lines("No run is in progress.")


def _part_row(part: PartState) -> list[object]:
    return [part.name, "running" if part.alive else "down", part.pid, part.restarts, part.note]


def _plain(value: Any) -> Any:
    from pydantic import BaseModel, SecretStr

    if isinstance(value, SecretStr):
        return "(set)"
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return ", ".join(str(_plain(one)) for one in value)
    return str(value) if isinstance(value, Path) else value

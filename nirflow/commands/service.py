"""``nirflow up``, ``down``, ``status`` and ``settings``: the unattended service."""

from __future__ import annotations

import os
import time
from dataclasses import replace
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
    from deployments.settings.all_settings import Described, Settings
    from deployments.status.overview import Overview
    from deployments.status.supervisor_state import PartState, ServiceState

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data folder: database, products, logs. Default: NIRFLOW_DATA_DIR."),
]  # fmt: skip


def up(
    watch: Annotated[
        list[Path] | None,
        typer.Option(
            "--watch",
            metavar="DIR",
            help="Folder in which raw frames arrive; remembered for the next up. Repeatable.",
        ),
    ] = None,
    no_watch: Annotated[
        bool, typer.Option("--no-watch", help="Watch no folder, and forget those of an earlier --watch.")
    ] = False,
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

    Parts that are already running are left as they are; if they run with other options than those asked for, nothing
    changes and the exit code is 1. nirflow up --watch /data/raw
    """
    from deployments.prefect_server.server import check_password

    if watch and no_watch:
        raise typer.BadParameter("--watch and --no-watch exclude each other.")
    settings = _settings(watch, data, bind, no_watch)
    check_password(settings.server)
    if foreground:
        raise typer.Exit(_stay(settings, bool(watch), no_watch))
    from deployments.supervisor.service import start

    began = time.monotonic()
    with console(stderr=True).status("Starting: databases, Prefect server, worker ..."):
        state, started = start(settings)
    seconds = time.monotonic() - began
    if started:
        _keep_watched(settings, bool(watch), no_watch)
    else:
        _refuse_other(state, settings, asked=bool(watch) or no_watch)
    if json:
        print_json({**state.model_dump(mode="json"), "started": started, "seconds": round(seconds, 1)})
        return
    print_lines(f"Up after {seconds:.0f} s." if started else f"Already up (process {state.pid}).")
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
    """Show the state of each part, what arrives, runs and waits, and for what, files in quarantine, what is switched
    off, and free disk. What cannot be asked is stated. Exit code 3 if nirflow is not up, 4 if a part is down.
    """
    from deployments.status.supervisor_state import read_state

    settings = _settings(None, data, None)
    state = read_state(settings)
    alive = state is not None and state.alive
    found = _overview(settings, state) if state is not None else None
    if json:
        known = found.model_dump(mode="json") if found is not None else {}
        print_json({"up": alive, **known, **(state.model_dump(mode="json") if state else {})})
    else:
        if state is None or not alive:
            print_lines("nirflow is not up. Start it: nirflow up --watch DIR")
        else:
            _print_parts(state, _login(data))
        if state is not None and found is not None:
            _print_overview(state, found, settings)
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

    listed = [_remembered(one) for one in describe(Settings())]
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


def _remembered(setting: Described) -> Described:
    """Return a setting as it is used: the folders to watch may be those of an earlier ``nirflow up``."""
    from deployments.settings.all_settings import Settings
    from deployments.settings.remembered import file_of, with_remembered

    if setting.name != "watch.folders" or setting.value:
        return setting
    known = Settings()
    used = with_remembered(known).watch.folders
    return replace(setting, value=used, source=str(file_of(known))) if used else setting


def _settings(
    watch: list[Path] | None, data: Path | None, bind: str | None, no_watch: bool = False
) -> Settings:
    """Return the settings, overridden by the command line."""
    from calib_store.model.settings import WrongSettingsError
    from deployments.settings.all_settings import Settings
    from deployments.settings.remembered import with_remembered
    from nirflow.request import require_text

    if data is not None:
        os.environ["NIRFLOW_DATA_DIR"] = str(data.expanduser().resolve())
    known = Settings()
    if not watch and not no_watch:
        known = with_remembered(known)
    changes: dict[str, Any] = {}
    if no_watch:
        changes["watch"] = known.watch.model_copy(update={"folders": ()})
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


def _keep_watched(settings: Settings, named: bool, no_watch: bool) -> None:
    """Remember the folders that the command names for the next ``nirflow up``."""
    from deployments.settings.remembered import forget, remember

    if named:
        remember(settings, settings.watch.folders)
    elif no_watch:
        forget(settings)


def _refuse_other(state: ServiceState, settings: Settings, *, asked: bool) -> None:
    """Raise an error if what is running was started with other options."""
    from deployments.processes import ProcessError

    other = _differs(state, settings, asked)
    if other:
        raise ProcessError(
            f"nirflow is already up (process {state.pid}), started with {other}; nothing was changed.",
            remedy="To change that: nirflow down, then up again.",
        )


def _stay(settings: Settings, named: bool, no_watch: bool) -> int:
    import logging
    import sys

    from deployments.processes import ProcessError
    from deployments.status.supervisor_state import read_state
    from deployments.supervisor.service import end_left_over, environment_of
    from deployments.supervisor.supervise import supervise

    state = read_state(settings)
    if state is not None and state.alive:
        raise ProcessError(f"nirflow is already up (process {state.pid}).", remedy="Stop it: nirflow down")
    end_left_over(state)
    _keep_watched(settings, named, no_watch)
    os.environ.update(environment_of(settings))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    return supervise(settings)


def _login(data: Path | None) -> str:
    return "nirflow server login" + _option(data)


def _option(data: Path | None) -> str:
    return f" --data {data}" if data else ""


def _differs(state: ServiceState, settings: Settings, asked: bool) -> str:
    """Describe how the options of what is running differ from the settings; ``asked``: folders, or none, were named."""
    options = []
    if (asked or settings.watch.folders) and state.watched != settings.watch.folders:
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
    from deployments.status.prefect_runs import PATIENCE

    if not state.password:  # an earlier nirflow started it
        return Rest(state.api_url, settings.server.auth_string, PATIENCE)
    hold_url(state.api_url)
    return Rest(state.api_url, known(settings.data_dir, settings.server), PATIENCE)


def _logs(state: ServiceState) -> str:
    return str(next((part.log.parent for part in state.parts if part.log is not None), ""))


def _overview(settings: Settings, state: ServiceState) -> Overview:
    """Return what arrives, waits and runs, whether or not the server can be asked."""
    from deployments.status.overview import overview
    from imaging.errors import NirflowError

    rest, why_not = None, "nirflow is not up."
    if state.alive:
        try:
            if state.api_url:
                rest = _rest(settings, state)
            why_not = "The Prefect server has no address yet."
        except NirflowError as error:
            why_not = str(error)
    return overview(settings, rest, why_not=why_not, watched=state.watched)


def _print_parts(state: ServiceState, login: str) -> None:
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


def _print_overview(state: ServiceState, found: Overview, settings: Settings) -> None:
    from deployments.status.wording import lines, restarts

    for line in (*restarts(state), *lines(found, str(settings.data_dir.expanduser()))):
        print_lines(f"{line.topic}: {line.text}")


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

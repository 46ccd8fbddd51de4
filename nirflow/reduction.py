"""The execution of ``nirflow reduce`` and ``stack``: services started, the flow run, progress on the terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from calib_store.model.settings import StoreSettings, default_data_dir
from deployments.deployed.log import hide_tracebacks_of_our_errors
from deployments.prefect_api.rest import PASSWORD_REMEDY
from deployments.prefect_server.client import connected, quick_imports
from deployments.prefect_server.server import ServerError, ensure_server
from imaging.kinds import target_label
from imaging.printable import printable
from nirflow.console.log import configure
from nirflow.console.output import console, print_lines
from nirflow.request import require_text

if TYPE_CHECKING:
    from deployments.settings.server_settings import ServerAddress
    from flows.run.report import NightReport
    from nirflow.request import ReduceRequest
    from nirflow.stack_request import StackRequest
    from tasks.support.step import StepEvent

LOG_NAME = "nirflow.log"
#: What the steps that only look something up are called, before the label of their group.
_LOOKS: Final = {"choose": "calibrations for", "exposures": "exposures before"}


def run_reduce(request: ReduceRequest) -> NightReport:
    """Reduce a night as requested.

    Returns
    -------
    NightReport
        What was made, and what was left out and why.

    Raises
    ------
    NirflowError
        If nothing could be done: no such path, no folder to write to, no database or server.
    """
    with running(request.out, quiet=request.quiet) as services:
        with quick_imports():
            from flows.night import Options, reduce_night
            from tasks.choose import Choice
            from tasks.prefect_internals.heartbeats import prompt_heartbeats
        options = Options(
            bands=request.bands,
            only=request.only,
            parameters=request.parameters,
            choice=Choice(
                use={one.kind: one.name for one in request.use}, allow_missing=request.allow_missing
            ),
            recursive=request.recursive,
            across_nights=request.across_nights,
            join=request.join,
            as_of=request.as_of,
            affected_by=request.affected_by,
            overwrite=request.overwrite,
            data_dir=services.data_dir,
            threads=request.threads,
            **({"memory": int(request.memory)} if request.memory else {}),
        )
        with prompt_heartbeats(reduce_night) as run, services.shown():
            report = run(list(request.paths), services.out, options)
    return report.model_copy(update={"log_file": services.log_file})


def run_stack(request: StackRequest) -> NightReport:
    """Combine the stacks of a field as requested.

    Returns
    -------
    NightReport
        What was made, and what was left out and why.

    Raises
    ------
    NirflowError
        If nothing could be done: no such stacks, no folder to write to, no database or server.
    """
    with running(request.out, quiet=request.quiet) as services:
        with quick_imports():
            from flows.mosaic import Options, StackSelection, combine_stacks
            from tasks.prefect_internals.heartbeats import prompt_heartbeats
        options = Options(
            bands=request.bands,
            parameters=request.parameters,
            as_of=request.as_of,
            overwrite=request.overwrite,
            data_dir=services.data_dir,
            threads=request.threads,
        )
        selection = StackSelection(
            target=request.target, observation=request.observation, first=request.first, last=request.last
        )
        with prompt_heartbeats(combine_stacks) as run, services.shown():
            report = run(selection, services.out, options)
    return report.model_copy(update={"log_file": services.log_file})


@dataclass(frozen=True)
class Services:
    """What a flow runs with: its folders, and the server that records it."""

    out: Path
    data_dir: Path
    log_file: Path
    address: ServerAddress
    quiet: bool

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the steps of a flow that runs in the block, and report clearly a server that fails it."""
        with (
            _progress(quiet=self.quiet),
            _server_reported(self.address),
            redirect_stdout(sys.stderr),  # a step of the user's own may print; standard output has the report
        ):
            yield


@contextmanager
def running(out: Path, *, quiet: bool) -> Iterator[Services]:
    """Start the services that a flow needs, and log to the output folder while the block runs.

    Raises
    ------
    NirflowError
        If there is no folder to write to, no database or no server.
    """
    from flows.run.output_folders import make_writable

    out = out.expanduser().resolve()
    make_writable(out)
    data_dir = StoreSettings().data_dir
    require_text(out, data_dir)
    with ThreadPoolExecutor(1) as pool:
        # The server takes seconds to start: the science is imported meanwhile.
        starting = pool.submit(ensure_server, data_dir)
        with quick_imports():
            import tasks.support.parameters  # noqa: F401
        address = starting.result()
    if not quiet and address.pid is not None:
        folder = "" if data_dir == default_data_dir() else f" --data {data_dir}"
        message = f"Runs and logs: {address.ui_url} (log in: nirflow server login{folder})"
        print_lines(message, err=True)
    log_file = out / LOG_NAME
    hide_tracebacks_of_our_errors()
    with configure(log_file, console_level=logging.CRITICAL), connected(address):
        yield Services(out, data_dir, log_file, address, quiet)


@contextmanager
def _server_reported(address: ServerAddress) -> Iterator[None]:
    """Report clearly a server that requires a password, or that stopped during the run."""
    import httpx  # raised by Prefect's client, and installed with it

    try:
        yield
    except httpx.HTTPError as error:
        if (
            isinstance(error, httpx.HTTPStatusError)
            and error.response.status_code == httpx.codes.UNAUTHORIZED
        ):
            raise ServerError(
                f"The Prefect server at {address.ui_url} requires a password, and none or a wrong one was given.",
                remedy=PASSWORD_REMEDY,
            ) from error
        why = str(error).partition(" - Response")[0].partition("\n")[0] or type(error).__name__
        raise ServerError(
            f"The Prefect server at {address.ui_url} no longer responds: {why.rstrip('.')}.",
            remedy="Finished products are in the store. Start it (nirflow server start) and run the command again.",
        ) from error


def _step_label(event: StepEvent) -> str:
    """Return the step and its label; most labels already name the step."""
    step = _LOOKS.get(event.step) or target_label(event.step)
    return event.label if event.label.startswith(step) else f"{step} {event.label}"


@contextmanager
def _progress(*, quiet: bool) -> Iterator[None]:
    """Show the running steps, from their events; at a terminal only."""
    screen = console(stderr=True)
    if quiet or not screen.is_terminal:
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.text import Text

    from tasks.support.step import listening

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        shown: dict[tuple[str, str], TaskID] = {}

        def note(event: StepEvent) -> None:
            what = (event.step, event.label)
            if event.state == "started":
                shown[what] = progress.add_task(printable(_step_label(event)), total=None)
            elif event.state != "part" and what in shown:
                progress.remove_task(shown.pop(what))
                mark = {"built": "made", "reused": "reused", "failed": "failed"}[event.state]
                style = "red" if event.state == "failed" else ""
                label = f" {printable(_step_label(event))} ({event.seconds:.1f} s)"
                progress.console.print(Text.assemble("  ", (f"{mark:7}", style), label))

        with listening(note):
            yield

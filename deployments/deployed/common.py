"""Functions that the deployed flows share: settings, the store, locks on nights, the night's page, tags."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from prefect import get_client, runtime
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Completed, Failed, State

from calib_store.model.records import Frame
from calib_store.store import Store
from calib_store.tables.locks import alone_with, alone_with_pages
from deployments.arrivals.selection import (
    doubles_elsewhere,
    files_of,
)
from deployments.arrivals.starting import start_waiting
from deployments.deployed.attempts import end_steps_of_last_attempt
from deployments.deployed.cluster import steps_on
from deployments.deployed.log import hide_tracebacks_of_our_errors, info_logged
from deployments.prefect_api.names import WAITING
from deployments.prefect_api.rest import Rest
from deployments.prefect_api.run_names import nights_text, run_name
from deployments.printable_output import make_output_printable
from deployments.settings.all_settings import Settings
from deployments.status.store_facts import sequence_name
from flows.run.options import Options
from flows.run.report import NightReport
from flows.run.run import reduce_with
from imaging.errors import NirflowError
from tasks.support.artifacts import publish_page
from tasks.support.best_effort import best_effort
from tasks.support.parameters import ReductionParameters, as_in_a_form
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)

# Every process that runs one of the flows imports this module.
make_output_printable()
hide_tracebacks_of_our_errors()


class NothingToDoError(NirflowError):
    """A run without frames: none of those requested is known."""


class UnusableFramesError(NirflowError):
    """A run none of whose frames can be used."""

    def __init__(self, what: str, frames: Sequence[Frame]) -> None:
        reasons = "; ".join(f"{one.name}: {one.quarantine}" for one in frames[:3])
        super().__init__(
            f"None of the {len(frames)} frames of {what} can be used. {reasons}{'; ...' if frames[3:] else ''}.",
            remedy="Fetch them again; the night's page gives the reason for each.",
        )


class IncompleteError(NirflowError):
    """A run that did not make everything that it should have made.

    Parameters
    ----------
    report
        The report of the run.
    """

    def __init__(self, report: NightReport) -> None:
        super().__init__(report.verdict(), remedy="The night's page describes what to do about each.")
        self.report = report


class WaitingError(IncompleteError):
    """A run that waits for a calibration: Prefect takes only an error as the result of a state that is not green."""


def workspace_of(settings: Settings) -> Workspace:
    """Return the workspace of a run that is not a reduction."""
    return Workspace(data_dir=settings.data_dir.expanduser().resolve(), out=settings.nights)


def store_of(settings: Settings) -> Store:
    """Return the store; a process has one connection pool."""
    return workspace_of(settings).store()


def options_of(settings: Settings, **given: Any) -> Options:
    """Return the options of an unattended reduction.

    A sequence that has grown gives a product with the same name and other content: the new one replaces the old one in
    the night's folder. The store keeps both.
    """
    parameters = as_in_a_form(given.pop("parameters", None) or ReductionParameters())
    settings.steps.check_form(parameters.steps)
    steps = parameters.steps.over(settings.steps.parameters).resolved()
    settings.catalogue.check_form(parameters.catalogue)
    stars = parameters.catalogue.over(settings.catalogue)
    parameters = parameters.model_copy(update={"steps": steps, "catalogue": stars})
    if settings.watch.check is not None:
        parameters = parameters.model_copy(update={"check": settings.watch.check})
    return Options(
        data_dir=settings.data_dir,
        threads=settings.worker.threads,
        scratch_limit=settings.worker.scratch_limit,
        overwrite=True,
        parameters=parameters,
        **given,
    )


def reduce_frames(
    settings: Settings,
    choose: Callable[[], Sequence[Frame]],
    nights: Sequence[date],
    options: Options,
    *,
    sequence: str | None = None,
) -> NightReport:
    """Reduce frames of the store into the folders of their nights, with a lock on these, and write their pages.

    Parameters
    ----------
    settings
        All settings.
    choose
        Returns the frames. Called once the lock is held, as frames may arrive while another run holds it.
    nights
        Nights, in order. For one night, all products go to its folder; for several, each to its own night's.
    options
        Options of the reduction.
    sequence
        Name of the sequence, if only one is reduced.

    Raises
    ------
    NothingToDoError
        If there are no frames.
    UnusableFramesError
        If none of them can be used; the night's page gives the reason for each.
    """
    what = sequence or nights_text(nights)
    with working(settings, nights, what, sequence):
        frames = choose()
        if not frames:
            raise NothingToDoError(
                f"The store has no frames of {what}.",
                remedy="Check that the raw frames' folder is watched (nirflow up --watch DIR) and that frames arrived.",
            )
        elsewhere = doubles_elsewhere(store_of(settings), frames, nights)
        paths, gone = files_of(frame for frame in frames if frame.sha256 not in elsewhere)
        with best_effort("Tagging the run"):
            tag_run(frames, nights)
        out, options = place_of(settings, nights, options)
        report = reduce_with(
            paths,
            out,
            options,
            what,
            sequence=sequence,
            missed=[*gone, *elsewhere.values()],
            absent=_absent(frames, paths, sequence),
        )
    write_pages(settings, nights)
    # As of this run: frames that an earlier one could not use may pass with other parameters of the check.
    known = store_of(settings).frames.with_sha256s([frame.sha256 for frame in frames])
    now = [known[frame.sha256] for frame in frames]
    if all(frame.quarantine is not None for frame in now):
        raise UnusableFramesError(what, now)
    return report


def _absent(frames: Iterable[Frame], paths: Collection[Path], sequence: str | None) -> set[str]:
    """Return the sha256 of the frames without a file to survey; for the run of a sequence only its own."""
    there = set(paths)
    return {
        frame.sha256 for frame in frames
        if there.isdisjoint(frame.paths) and sequence in (None, sequence_name(frame))
    }  # fmt: skip


@contextmanager
def working(
    settings: Settings, nights: Sequence[date], what: str, sequence: str | None = None
) -> Iterator[None]:
    """Hold the lock on nights, or on one sequence, with logging and the cluster set up."""

    def waiting() -> None:
        logger.info("Another run is processing %s; this one continues when that has ended", what)

    end_steps_of_last_attempt()
    with (
        info_logged(),
        steps_on(settings),
        alone_with(store_of(settings).database, nights, sequence, waiting),
    ):
        yield


def place_of(settings: Settings, nights: Sequence[date], options: Options) -> tuple[Path, Options]:
    """Return the output folder of a run over nights, and its options for that folder."""
    if len(nights) == 1:
        return settings.nights / str(nights[0]), options
    return settings.nights, options.model_copy(update={"by_night": True})


def ended(report: NightReport, *, of_calibrations: bool = False) -> State[Any]:
    """Return the final state of a run: Incomplete if something failed, was not replaced or lacks many frames; Waiting
    if the science (for a run of calibrations, any of them) waits for a calibration; otherwise Completed.

    Incomplete is of the type Failed, as the UI's start page shows only failed runs. Waiting is not a failure, but it is
    not green either: it is of the type Cancelled, the only final one that is neither, so that it ends the run, frees
    its place, and starts no retry and no notification of a failure.
    """
    if report.incomplete:
        return Failed(name="Incomplete", message=report.verdict(), data=IncompleteError(report))
    if report.awaited(by_science=not of_calibrations):
        return Cancelled(name=WAITING, message=report.verdict(), data=WaitingError(report))
    return Completed(message=report.verdict(), data=report)


def name_of_run(deployment: str) -> Callable[[], str]:
    """Return a function that names the current run of a deployment."""

    def name() -> str:
        request: Any = runtime.flow_run.parameters.get("request")
        due = runtime.flow_run.scheduled_start_time or datetime.now(UTC)
        return run_name(deployment, request, due, ZoneInfo(Settings().nightly.timezone)) or deployment

    return name


def write_pages(settings: Settings, nights: Iterable[date]) -> None:
    """Write the pages of those nights that the store has data of, the index of all nights, and the trends."""
    from flows.page.collect import UnknownNightError
    from flows.page.write import write_index, write_night_page, write_trends  # slow to import

    store = store_of(settings)
    # Of two runs that end together the later one has the data of both: its page must be the one that remains.
    with best_effort("The pages of the nights"), alone_with_pages(store.database):
        for night in nights:
            with best_effort(f"The page of {night}"):
                try:
                    page = write_night_page(store, night, settings.nights)
                except UnknownNightError:
                    continue  # a cloudy night
                logger.info("The night's page: %s", page)
                if runtime.flow_run.id:
                    # Without a host: browsers reach the UI, and the pages next to it, by any name and port.
                    publish_page(f"page-{night}", f"/nights/{night}/", page, f"Page of {night}")
        write_index(store, settings.nights)
        with best_effort("The page of trends"):
            write_trends(store, settings.nights)


def tag_run(frames: Iterable[Frame], nights: Sequence[date]) -> None:
    """Tag the flow run with its nights, bands and programs, for searches in the UI."""
    run = runtime.flow_run.id
    if not run:
        return
    of = [frame.facts for frame in frames if frame.facts is not None]
    science = [facts for facts in of if facts.kind == "object"]
    tags = {str(night) for night in nights}
    tags |= {facts.filter for facts in science or of if facts.kind != "dark"}
    tags |= {facts.program for facts in science if facts.program}
    with get_client(sync_client=True) as client:
        client.update_flow_run(run, tags=sorted({*runtime.flow_run.tags, *tags}))


def start_waiting_science(settings: Settings) -> None:
    """Start the science whose missing calibrations are now available, sooner than the watcher would."""
    api = get_current_settings().api
    assert api.url is not None  # flows run only with a server
    auth = api.auth_string.get_secret_value() if api.auth_string is not None else None
    with best_effort("Starting the science that waited for calibrations"):
        start_waiting(
            settings, store_of(settings), Rest(api.url, auth), own_run=str(runtime.flow_run.id or "")
        )

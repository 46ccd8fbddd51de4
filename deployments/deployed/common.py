"""What the deployed flows have in common: settings, the store, the right to a night, the night's page, tags."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import get_client, runtime
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.settings import PREFECT_UI_URL
from prefect.states import Completed, Failed, State

from calib_store.model.records import Frame
from calib_store.store import Store
from calib_store.tables.locks import alone_with, alone_with_pages
from deployments.arrivals.selection import (
    doubles_elsewhere,
    files_of,
    frames_of_sequence,
    middle_of,
    nights_text,
)
from deployments.deployed.attempts import end_steps_of_last_attempt
from deployments.deployed.cluster import steps_on
from deployments.deployed.log import hide_tracebacks_of_our_errors, info_logged
from deployments.prefect_api.events import SEQUENCE, UNBLOCKED
from deployments.prefect_api.sequence_events import announce
from deployments.printable_output import make_output_printable
from deployments.settings.all_settings import Settings
from flows.run.options import Options
from flows.run.report import NightReport
from flows.run.run import reduce_with
from flows.science import submit_with_calibrations
from imaging.errors import NirflowError
from imaging.frames.sequences import Sequence as Exposures
from tasks.support.artifacts import publish_page
from tasks.support.best_effort import best_effort
from tasks.support.parameters import ReductionParameters
from tasks.support.workspace import Workspace

logger = logging.getLogger(__name__)

# Whoever runs one of the flows has this module.
make_output_printable()
hide_tracebacks_of_our_errors()


class NothingToDoError(NirflowError):
    """A run that was asked for frames that nobody has seen."""


class UnusableFramesError(NirflowError):
    """Frames came, and not one of them can be used."""

    def __init__(self, what: str, frames: Sequence[Frame]) -> None:
        told = "; ".join(f"{one.name}: {one.quarantine}" for one in frames[:3])
        super().__init__(
            f"Not one of the {len(frames)} frames of {what} can be used. {told}{'; ...' if frames[3:] else ''}.",
            remedy="Fetch them again; the night's page tells of each.",
        )


class IncompleteError(NirflowError):
    """A run that made all but something that should have been made.

    Parameters
    ----------
    report
        What it did.
    """

    def __init__(self, report: NightReport) -> None:
        super().__init__(report.verdict(), remedy="The night's page says what to do about each.")
        self.report = report


def workspace_of(settings: Settings) -> Workspace:
    """Where a run that is no reduction works."""
    return Workspace(data_dir=settings.data_dir.expanduser().resolve(), out=settings.nights)


def store_of(settings: Settings) -> Store:
    """The store; one connection pool for the process."""
    return workspace_of(settings).store()


def options_of(settings: Settings, **given: Any) -> Options:
    """The options of a reduction that runs by itself.

    A sequence that grew makes a product of the same name and other content: the new one takes the old one's
    place in the night's folder. The store keeps both.
    """
    parameters = given.pop("parameters", None) or ReductionParameters()
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
    """Reduce frames that the store knows into the folders of their nights, alone with them, and write their pages.

    Parameters
    ----------
    settings
        Where everything is.
    choose
        The frames. Asked when no other run is at these nights any more: it may have been waited for while frames came.
    nights
        UT nights, in time. Of one, all that is made goes to its folder; of several, each product to its own night's.
    options
        Of the reduction.
    sequence
        Name of the one sequence that it is about, if it is.

    Raises
    ------
    NothingToDoError
        Where there are no frames.
    UnusableFramesError
        Where not one of them can be used; the night's page tells of each.
    """
    what = sequence or nights_text(nights)
    with working(settings, nights, what, sequence):
        frames = choose()
        if not frames:
            raise NothingToDoError(
                f"The store knows no frame of {what}.",
                remedy="See that the folder of raw frames is watched (nirflow up --watch DIR), and that frames came.",
            )
        elsewhere = doubles_elsewhere(store_of(settings), frames, nights)
        paths, gone = files_of(frame for frame in frames if frame.sha256 not in elsewhere)
        with best_effort("Tagging the run"):
            tag_run(frames, nights)
        out, options = place_of(settings, nights, options)
        report = reduce_with(
            submit_with_calibrations,
            paths,
            out,
            options,
            what,
            sequence=sequence,
            missed=[*gone, *elsewhere.values()],
        )
    write_pages(settings, nights)
    # As the run found them: what an earlier one could not use may be of use by other parameters of the check.
    known = store_of(settings).frames.with_sha256s([frame.sha256 for frame in frames])
    now = [known[frame.sha256] for frame in frames]
    if all(frame.quarantine is not None for frame in now):
        raise UnusableFramesError(what, now)
    return report


@contextmanager
def working(
    settings: Settings, nights: Sequence[date], what: str, sequence: str | None = None
) -> Iterator[None]:
    """Hold the right to nights, or to one sequence, with lines of the log and steps going where they should."""

    def waiting() -> None:
        logger.info("Another run is at %s; this one goes on when that has ended", what)

    end_steps_of_last_attempt()
    with (
        info_logged(),
        steps_on(settings),
        alone_with(store_of(settings).database, nights, sequence, waiting),
    ):
        yield


def place_of(settings: Settings, nights: Sequence[date], options: Options) -> tuple[Path, Options]:
    """The output folder of a run over nights, and its options with that."""
    if len(nights) == 1:
        return settings.nights / str(nights[0]), options
    return settings.nights, options.model_copy(update={"by_night": True})


def ended(report: NightReport) -> State[Any]:
    """The state in which a run ends: Incomplete where something failed, was not replaced or lacks many frames.

    What waits for a calibration has not failed. Incomplete is a kind of Failed: the UI's first page shows the runs that
    failed, and no others.
    """
    if report.incomplete:
        return Failed(name="Incomplete", message=report.verdict(), data=IncompleteError(report))
    return Completed(message=report.verdict(), data=report)


def write_pages(settings: Settings, nights: Iterable[date]) -> None:
    """Write the pages of those nights that anything is known of, and the index over all of them."""
    from flows.page.collect import UnknownNightError
    from flows.page.write import write_index, write_night_page  # with its plots a second to import

    store = store_of(settings)
    # Of two runs that end at a time the later one knows of both: its page is to be the one that stays.
    with best_effort("The pages of the nights"), alone_with_pages(store.database):
        for night in nights:
            with best_effort(f"The page of {night}"):
                try:
                    page = write_night_page(store, night, settings.nights)
                except UnknownNightError:
                    continue  # a cloudy night
                logger.info("The night's page: %s", page)
                if runtime.flow_run.id:
                    there = f"{PREFECT_UI_URL.value().rstrip('/')}/nights/{night}/"
                    publish_page(f"page-{night}", there, page, f"Page of {night}")
        write_index(store, settings.nights)


def tag_run(frames: Iterable[Frame], nights: Sequence[date]) -> None:
    """Tag the flow run with its nights, bands and programs, to be searched by in the UI."""
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


def announce_unblocked(settings: Settings) -> list[str]:
    """Tell of the science that waited for calibrations that are there now; its runs start by that.

    Returns
    -------
    list of str
        Names of the sequences.
    """
    store = store_of(settings)
    since = datetime.now(UTC) - timedelta(days=settings.nightly.waiting_days)
    told: list[str] = []
    waiting = store.runs.waiting(since)
    asked = _asked_for() if waiting else set()
    for run in waiting:
        assert run.sequence is not None
        if run.sequence in asked:  # by the run before this one
            continue
        middle = middle_of(frames_of_sequence(store, run.sequence))
        if middle is not None and all(store.match(middle, kind).product for kind in run.waits_for):
            _announce(Exposures.of(middle), ", ".join(run.waits_for))
            told.append(run.sequence)
    return told


def announce_if_served_since(settings: Settings, sequence: str, report: NightReport) -> bool:
    """Tell of a sequence that waits, where what it lacked was made while its own run was at work.

    The run that made it did not announce the sequence, which had not said yet that it waits.
    """
    store = store_of(settings)
    kinds = report.awaited(by_science=True)
    middle = middle_of(frames_of_sequence(store, sequence)) if kinds else None
    if middle is None:
        return False
    served = [store.match(middle, kind).product for kind in kinds]
    if not all(one is not None and one.made_at >= report.started for one in served):
        return False
    _announce(Exposures.of(middle), ", ".join(kinds))
    return True


def _asked_for() -> set[str]:
    """Names of the sequences that a run is at, or will be."""
    going_on = {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}}
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            deployment_filter=DeploymentFilter.model_validate({"name": {"any_": ["arrival", "backlog"]}}),
            flow_run_filter=FlowRunFilter.model_validate(going_on),
        )
    requests = [run.parameters.get("request") or {} for run in found]
    return {str(request.get("sequence", "")).removeprefix(SEQUENCE) for request in requests}


def _announce(sequence: Exposures | None, kinds: str) -> None:
    assert sequence is not None  # it was reduced as one
    logger.info("%s waited for a %s, and there is one now", sequence.label, kinds)
    announce(UNBLOCKED, sequence)

"""Runs that met a full disk: each waits until the disk has room, and is started again, a few times at most.

A run that waits is one of the Prefect server's scheduled runs: it keeps its id, takes no place of a worker, and is
found again after a restart of anything. When its time comes it looks at the disk before it does anything else.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn, ParamSpec
from uuid import UUID

import httpx  # what Prefect's client raises, there with it
from prefect import get_client, runtime
from prefect.exceptions import Pause, PrefectException
from prefect.states import AwaitingRetry, State

from deployments.notices.outbox import keep
from deployments.prefect_api.space_wait import ATTEMPTS, WAITED_FOR_SPACE, SpaceWait
from deployments.settings.all_settings import Settings
from flows.run.report import NightReport, Space
from imaging.machine import free_bytes, full_disk
from tasks.support.best_effort import best_effort

logger = logging.getLogger(__name__)

P = ParamSpec("P")

#: Room below which a disk counts as full, whatever error a run ended with, bytes: a database that cannot write ends
#: the connection, and the server answers with an error of its own.
LEAST: Final = 128 * 10**6
#: How long a server that does not answer, because its disk is full too, is asked again, and the pause between, s.
_PATIENCE, _PAUSE = 600.0, 5.0


def again_with_space(flow: Callable[P, State[NightReport]]) -> Callable[P, State[NightReport]]:
    """Make the function of a deployed flow wait for disk space when it met a full disk; below the decorator ``flow``.

    The run ends as before if it met one more than `ATTEMPTS` times, or waited longer than science waits for
    calibrations. Without a deployment nobody would start it again, so nothing changes.
    """

    @functools.wraps(flow)
    def run(*arguments: P.args, **named: P.kwargs) -> State[NightReport]:
        if not runtime.deployment.id:
            return flow(*arguments, **named)
        settings = Settings()
        before = _wait_of_run()
        if before is not None and _lacks(before):
            if _in_time(before, settings):
                _wait(before, settings.worker.space_pause)
            logger.warning("The run %s, for too long: it is tried a last time", before.text())
        try:
            state = flow(*arguments, **named)
        except Exception as error:
            _wait_again(space_behind(error, settings), before, settings)
            raise
        _wait_again(_space_of(state), before, settings)
        return state

    # Prefect looks the names of annotations up in the module of the function, which is this one.
    signature = inspect.signature(flow, eval_str=True)
    vars(run)["__signature__"] = signature
    run.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
    return run


def space_behind(error: BaseException, settings: Settings) -> Space | None:
    """Return the room that a run lacked which ended with an error; None if no disk was full."""
    full = full_disk(error)
    if full is not None:
        return Space(folder=full.folder or settings.data_dir, needed=max(full.needed or 0, LEAST))
    free = free_bytes(settings.data_dir.expanduser())
    return Space(folder=settings.data_dir, needed=LEAST) if free is not None and free < LEAST else None


def _space_of(state: State[Any]) -> Space | None:
    """Return the room that a run lacked which ended with a report."""
    report = getattr(state.data, "report", state.data)  # an error of an incomplete run has it
    return report.space if isinstance(report, NightReport) else None


def _wait_again(space: Space | None, before: SpaceWait | None, settings: Settings) -> None:
    """Wait after an attempt that met a full disk; return if it met none, or must not be repeated."""
    attempts = 1 if before is None else before.attempts + 1
    if space is None:
        return
    since = datetime.now(UTC) if before is None else before.since
    folder = (space.folder or settings.data_dir).expanduser().absolute()
    wait = SpaceWait(folder=folder, needed=space.needed, attempts=attempts, since=since)
    if attempts > ATTEMPTS or not _in_time(wait, settings):
        logger.error("The disk was full again; the run is not started any more")
        return
    if before is None and "failure" in settings.notify.on:
        with best_effort("The notification of the full disk"):
            keep(settings, f"nirflow: {runtime.flow_run.name} met a full disk", f"It {wait.text()}.")
    # A quota does not show in what is free: the pauses grow.
    _wait(wait, settings.worker.space_pause * 2 ** (attempts - 1))


def _lacks(wait: SpaceWait) -> bool:
    free = wait.free
    return free is not None and free < wait.needed


def _in_time(wait: SpaceWait, settings: Settings) -> bool:
    return datetime.now(UTC) - wait.since < timedelta(days=settings.nightly.waiting_days)


def _wait_of_run() -> SpaceWait | None:
    with get_client(sync_client=True) as client:
        return SpaceWait.of(client.read_flow_run(UUID(runtime.flow_run.id)).labels)


def _wait(wait: SpaceWait, pause: float) -> NoReturn:
    """End this process and have the run started again after a pause.

    Raises
    ------
    Pause
        Always: Prefect ends the process without ending the run.
    """
    run = UUID(runtime.flow_run.id)
    text = wait.text()
    logger.warning("The run %s. It looks again in %.0f s", text, pause)
    deadline = time.monotonic() + _PATIENCE
    while True:
        state: State[Any] = AwaitingRetry(
            scheduled_time=datetime.now(UTC) + timedelta(seconds=pause),
            message=f"{text[:1].upper()}{text[1:]}.",
        )
        try:
            with get_client(sync_client=True) as client:
                client.update_flow_run_labels(run, wait.labels)
                client.update_flow_run(run, tags={*runtime.flow_run.tags, WAITED_FOR_SPACE})
                client.set_flow_run_state(run, state, force=True)
        except (httpx.HTTPError, PrefectException):
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
        else:
            raise Pause(text, state=state)

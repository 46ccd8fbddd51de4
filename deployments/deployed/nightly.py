"""The flows for complete nights: everything, or the calibrations only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from prefect import flow, runtime
from prefect.states import Completed, State

from calib_store.model.records import Frame
from deployments.arrivals.selection import calibrations_of_nights, frames_of_nights, limited_to
from deployments.deployed.catch_up import record_new_files
from deployments.deployed.common import (
    NothingToDoError,
    ended,
    name_of_run,
    options_of,
    reduce_frames,
    start_waiting_science,
    store_of,
)
from deployments.deployed.disk_space import again_with_space
from deployments.deployed.requests import CalibrationsRequest, NightlyRequest, Nights
from deployments.prefect_api.run_names import last_night, nights_text
from deployments.settings.all_settings import Settings
from flows.run.options import Options
from flows.run.report import NightReport
from imaging.frames.nights import nights_between
from imaging.listed import listed
from tasks.choose import Choice
from tasks.support.step_runner import step_runner


def nights_of(request: Nights) -> list[date]:
    """Return the nights of a request, in order."""
    if request.first is None:
        zone = ZoneInfo(Settings().nightly.timezone)
        return [last_night(runtime.flow_run.scheduled_start_time or datetime.now(UTC), zone)]
    return nights_between(request.first, request.last or request.first)


@flow(name="nightly", flow_run_name=name_of_run("nightly"), task_runner=step_runner())
@again_with_space
def nightly(request: NightlyRequest = NightlyRequest()) -> State[NightReport]:
    """Reduce all frames of the last night, or of given nights, with the calibrations near them.

    Parameters
    ----------
    request
        The nights, and what to reduce of them.

    Returns
    -------
    NightReport
        What was made, what was left out and why, as on the night's page. None for a scheduled run over a night without
        frames.

    Raises
    ------
    NothingToDoError
        If nights are given, and no frame of them is known.
    """
    settings = Settings()
    nights = nights_of(request)
    record_new_files(settings)
    days = request.calibrations.days
    days = settings.nightly.calibration_days if days is None else days
    options = asked_options(settings, request)

    def choose() -> tuple[Frame, ...]:
        groups = options.parameters.groups
        found = frames_of_nights(store_of(settings), nights[0], nights[-1], days, groups)
        chosen = limited_to(found, request.targets, request.folder)
        targets = _targets(found)
        if request.targets and targets and not _targets(chosen):
            raise NothingToDoError(
                f"{nights_text(nights)} has no science of {listed(request.targets)}.",
                remedy=f"Its targets are: {listed(targets)}.",
            )
        return chosen

    return _reduce(settings, request, nights, options, choose)


def asked_options(settings: Settings, request: NightlyRequest) -> Options:
    """Return the options of the reduction that a request asks for."""
    calibrations, advanced = request.calibrations, request.advanced
    return options_of(
        settings,
        bands=request.bands,
        only=request.only,
        choice=Choice(
            use={one.kind: one.product for one in calibrations.use},
            allow_missing=frozenset(calibrations.allow_missing),
        ),
        parameters=advanced.parameters,
        across_nights=advanced.across_nights,
        join=advanced.join,
    )


def _targets(frames: Iterable[Frame]) -> list[str]:
    """Return the targets of the science among frames, in their order."""
    facts = (frame.facts for frame in frames)
    return list(dict.fromkeys(one.target for one in facts if one is not None and one.kind == "object"))


def _reduce(
    settings: Settings,
    request: Nights,
    nights: list[date],
    options: Options,
    choose: Callable[[], tuple[Frame, ...]],
) -> State[NightReport]:
    try:
        report = reduce_frames(settings, choose, nights, options)
    except NothingToDoError as error:
        if request.first is not None:
            raise
        return Completed(message=str(error))  # clouds, or another instrument: not an error
    start_waiting_science(settings)
    return ended(report, of_calibrations=isinstance(request, CalibrationsRequest))


@flow(name="calibrations", flow_run_name=name_of_run("calibrations"), task_runner=step_runner())
@again_with_space
def calibrations(request: CalibrationsRequest = CalibrationsRequest()) -> State[NightReport]:
    """Make the darks, bad pixel masks and flats of the last night, or of given nights, from frames in the store.

    New files are left to the watcher: this runs while frames arrive, and one that is still being written must wait.
    Afterwards, science that waited for one of these calibrations is started.

    Parameters
    ----------
    request
        The nights and the kinds of product.
    """
    settings = Settings()
    nights = nights_of(request)
    days = settings.nightly.calibration_days

    def choose() -> tuple[Frame, ...]:
        return calibrations_of_nights(store_of(settings), nights[0], nights[-1], days)

    return _reduce(settings, request, nights, options_of(settings, only=request.only), choose)

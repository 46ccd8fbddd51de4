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
    announce_unblocked,
    ended,
    name_of_run,
    options_of,
    reduce_frames,
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
from tasks.support.best_effort import best_effort


def nights_of(request: Nights) -> list[date]:
    """Return the nights of a request, in order."""
    if request.first is None:
        zone = ZoneInfo(Settings().nightly.timezone)
        return [last_night(runtime.flow_run.scheduled_start_time or datetime.now(UTC), zone)]
    return nights_between(request.first, request.last or request.first)


@flow(name="nightly", flow_run_name=name_of_run("nightly"))
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
    record_new_files(settings, nights)
    days = settings.nightly.calibration_days if request.calibration_days is None else request.calibration_days
    options = options_of(
        settings,
        bands=request.bands,
        only=request.only,
        parameters=request.parameters,
        across_nights=request.across_nights,
        join=request.join,
    )

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
    with best_effort("Starting the science that waited for calibrations"):
        announce_unblocked(settings)
    return ended(report, of_calibrations=isinstance(request, CalibrationsRequest))


@flow(name="calibrations", flow_run_name=name_of_run("calibrations"))
@again_with_space
def calibrations(request: CalibrationsRequest = CalibrationsRequest()) -> State[NightReport]:
    """Make the darks, bad pixel masks and flats of the last night, or of given nights, from frames in the store.

    New files are left to the watcher: this runs while frames arrive, and a frame recorded here first would not be new
    to the watcher. Afterwards, science that waited for one of these calibrations is started.

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

"""The flow for one science sequence, minutes after its last frame."""

from __future__ import annotations

from prefect import flow
from prefect.states import State

from calib_store.model.records import Frame
from deployments.arrivals.selection import calibrations_near, frames_of_sequence
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
from deployments.deployed.requests import SequenceRequest
from deployments.settings.all_settings import Settings
from flows.run.report import NightReport
from imaging.frames.sequences import night_in
from tasks.support.step_runner import step_runner


@flow(name="arrival", flow_run_name=name_of_run("arrival"), task_runner=step_runner())
@again_with_space
def arrival(request: SequenceRequest) -> State[NightReport]:
    """Reduce one sequence of science frames, with the raw darks and flats near it.

    Calibrations already in the store are used. If one is missing, the sequence waits and is reduced when it is
    available.

    Parameters
    ----------
    request
        The sequence.

    Raises
    ------
    NothingToDoError
        If no frame of the sequence is known.
    """
    settings = Settings()
    store = store_of(settings)
    known = [f.facts for f in frames_of_sequence(store, request.sequence) if f.facts is not None]
    if any(facts.kind != "object" for facts in known):
        raise NothingToDoError(
            f"{request.sequence} is a sequence of calibrations, not of science.",
            remedy="Run the deployment calibrations for its night.",
        )
    night = night_in(request.sequence)

    def choose() -> tuple[Frame, ...]:
        frames = frames_of_sequence(store, request.sequence)
        near = calibrations_near(store, night, night, settings.nightly.calibration_days)
        return (*frames, *near) if frames else ()

    options = options_of(settings, bands=tuple({facts.filter for facts in known}), only=("science",))
    report = reduce_frames(settings, choose, [night], options, sequence=request.sequence)
    if report.awaited(by_science=True):
        start_waiting_science(settings)  # another run may have made them meanwhile
    return ended(report)

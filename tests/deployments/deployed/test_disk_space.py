"""Deployed runs that met a full disk wait for room, and are started again."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, flow, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ParameterTypeError, Pause
from prefect.flow_engine import run_flow_sync
from prefect.states import Pending, State
from pydantic import BaseModel

from deployments.deployed import disk_space
from deployments.deployed.arrival import arrival
from deployments.deployed.common import ended
from deployments.deployed.disk_space import LEAST, again_with_space
from deployments.deployed.mosaic import mosaic
from deployments.deployed.nightly import calibrations, nightly
from deployments.deployed.reprocess import reprocess
from deployments.prefect_api import space_wait
from deployments.prefect_api.space_wait import ATTEMPTS, WAITED_FOR_SPACE, SpaceWait
from deployments.settings.server_settings import ServerAddress
from flows.run.report import Failure, NightReport, Space


class Deployed:
    """A run of a deployment, and what its attempts end with.

    Attributes
    ----------
    outcomes
        Those of the next attempts; the last one is repeated.
    attempts
        How many there were.
    """

    def __init__(self) -> None:
        self.outcomes: list[Exception | NightReport] = []
        self.attempts = 0

        @flow(name="night that meets a full disk")
        @again_with_space
        def night() -> State[NightReport]:
            self.attempts += 1
            outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
            if isinstance(outcome, Exception):
                raise outcome
            return ended(outcome)

        self.flow = night
        with get_client(sync_client=True) as client:
            self.id = client.create_flow_run(night, state=Pending()).id

    @property
    def run(self) -> FlowRun:
        """The run as the server has it."""
        with get_client(sync_client=True) as client:
            return client.read_flow_run(self.id)

    def begin(self) -> str | None:
        """Begin it as a worker does, and return the name of its state."""
        with contextlib.suppress(Pause, Exception):
            run_flow_sync(self.flow, flow_run=self.run)
        return self.run.state_name


@pytest.fixture
def deployed(prefect_server: ServerAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NIRFLOW_WORKER_SPACE_PAUSE", "0.01")
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "00000000-0000-0000-0000-000000000001")
    return Deployed()


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Determine how much is free on every disk."""

    def set_free(size: int) -> None:
        for module in (disk_space, space_wait):
            monkeypatch.setattr(module, "free_bytes", lambda _: size)

    set_free(10**12)
    return set_free


def report(*failures: Failure) -> NightReport:
    space = next((one.space for one in failures), None)
    return NightReport(
        failures=failures, out=Path("out"), started=datetime.now(UTC), seconds=1.0, space=space
    )


WITHOUT_ROOM = report(
    Failure(step="stack", label="Y", message="full", space=Space(folder=Path("/"), needed=7 * 10**9))
)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_run_that_met_a_full_disk_continues_when_there_is_room(
    deployed: Deployed, free: Callable[[int], None], tmp_path: Path, number: int
) -> None:
    deployed.outcomes = [OSError(number, os.strerror(number), f"{tmp_path}/planes"), report()]
    free(LEAST - 1)
    assert deployed.begin() == "AwaitingRetry"
    assert deployed.run.state is not None
    assert deployed.run.state.message == (
        f"Waits for disk space: 128.0 MB free, 128.0 MB needed ({tmp_path}/planes)."
    )
    # It looks again, and there is still no room: that is no attempt.
    assert deployed.begin() == "AwaitingRetry"
    wait = SpaceWait.of(deployed.run.labels)
    assert wait is not None
    assert (deployed.attempts, wait.attempts, wait.needed) == (1, 1, LEAST)
    free(LEAST)
    assert deployed.begin() == "Completed"
    assert deployed.attempts == 2


def test_a_report_with_a_full_disk_waits_for_what_its_plan_needs(
    deployed: Deployed, free: Callable[[int], None]
) -> None:
    deployed.outcomes = [WITHOUT_ROOM, report()]
    free(10**9)
    assert deployed.begin() == "AwaitingRetry"
    wait = SpaceWait.of(deployed.run.labels)
    assert wait is not None
    assert wait.text() == "waits for disk space: 1.0 GB free, 7.0 GB needed (/)"
    free(7 * 10**9)
    assert deployed.begin() == "Completed"


def test_a_stack_without_frames_that_met_a_full_disk_is_made_again(
    deployed: Deployed, free: Callable[[int], None]
) -> None:
    """Few lost frames leave a run complete."""
    lacking = report().model_copy(update={"space": Space(folder=Path("/"), needed=10)})
    assert ended(lacking).is_completed()
    deployed.outcomes = [lacking, report()]
    assert [deployed.begin(), deployed.begin()] == ["AwaitingRetry", "Completed"]
    assert WAITED_FOR_SPACE in deployed.run.tags


def test_the_attempts_are_limited(deployed: Deployed, free: Callable[[int], None]) -> None:
    """A quota may be used up on a disk with room."""
    deployed.outcomes = [WITHOUT_ROOM]
    states = [deployed.begin() for _ in range(ATTEMPTS + 1)]
    assert states == ["AwaitingRetry"] * ATTEMPTS + ["Incomplete"]
    assert deployed.attempts == ATTEMPTS + 1


def test_an_error_on_a_disk_that_is_full_is_taken_for_one_of_it(
    deployed: Deployed, free: Callable[[int], None]
) -> None:
    """A database that cannot write ends the connection, and that is all that a run learns."""
    deployed.outcomes = [ConnectionResetError("closed"), ValueError("a defect")]
    free(LEAST - 1)
    assert deployed.begin() == "AwaitingRetry"
    free(LEAST)
    assert deployed.begin() == "Failed"


def test_without_a_deployment_nothing_waits(
    deployed: Deployed, free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT__RUNTIME__DEPLOYMENT__ID")
    deployed.outcomes = [WITHOUT_ROOM]
    assert deployed.begin() == "Incomplete"


@pytest.mark.parametrize(
    ("deployed_flow", "request_"),
    [
        (arrival, {"sequence": "2013-11-21.science.Y.1f0c9a2b"}),
        (nightly, {"first": "2013-11-21"}),
        (calibrations, {"first": "2013-11-21"}),
        (reprocess, {"affected_by": "S1"}),
        (mosaic, {"target": "WISE J0413"}),
    ],
)
def test_the_flows_that_wait_still_check_their_requests(
    deployed_flow: Flow[Any, Any], request_: dict[str, str]
) -> None:
    valid = deployed_flow.validate_parameters({"request": request_})
    assert isinstance(valid["request"], BaseModel)
    assert again_with_space.__name__ in deployed_flow.fn.__code__.co_qualname  # it is the function that waits
    with pytest.raises(ParameterTypeError):
        deployed_flow.validate_parameters({"request": {"night": "x"}})


def test_labels_of_others_are_no_wait() -> None:
    assert SpaceWait.of({"prefect.flow.id": "1"}) is None
    assert SpaceWait.of({"nirflow.space.folder": "/", "nirflow.space.needed": "much"}) is None

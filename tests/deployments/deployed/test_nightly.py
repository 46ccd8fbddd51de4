"""The deployed flows for nights and sequences without frames to reduce, and the files that they find."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from observatory import recorded
from prefect import get_client, runtime
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.states import Scheduled
from raw_files import SHAPE, raw_bytes

from calib_store.model.records import FrameRecord
from calib_store.store import Store
from deployments.arrivals.folders import Scanner
from deployments.arrivals.landing import Signature
from deployments.deployed.arrival import arrival
from deployments.deployed.catch_up import record_new_files
from deployments.deployed.common import NothingToDoError, options_of, store_of
from deployments.deployed.nightly import asked_options, calibrations, nightly, nights_of
from deployments.deployed.requests import CalibrationsRequest, NightlyRequest, Nights, SequenceRequest
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import ServerAddress
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence
from tasks.choose import Choice
from tasks.prefect_internals.heartbeats import prompt_heartbeats
from tasks.support.parameters import ReductionParameters

NIGHT = date(2013, 11, 21)


@pytest.fixture
def known(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty store of the settings in the environment, for one test."""
    from tasks.support.workspace import close_stores

    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", database_url)
    monkeypatch.setenv("NIRFLOW_WATCH_CHECK", f'{{"shape": [{SHAPE[0]}, {SHAPE[1]}]}}')
    yield store_of(Settings())
    close_stores()


def test_the_nights_of_a_request() -> None:
    assert nights_of(Nights(first=NIGHT)) == [NIGHT]
    two = Nights(first=NIGHT, last=NIGHT + timedelta(days=1))
    assert nights_of(two) == [NIGHT, NIGHT + timedelta(days=1)]
    assert len(nights_of(Nights(first=date(2013, 12, 1), last=date(2013, 12, 31)))) == 31


def test_the_last_night_is_that_before_the_scheduled_time_of_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that is late, or is retried a day later, is still for its own night."""
    monkeypatch.setattr(runtime.flow_run, "scheduled_start_time", datetime(2013, 11, 21, 12, tzinfo=UTC))
    assert nights_of(Nights()) == [NIGHT]
    monkeypatch.setattr(runtime.flow_run, "scheduled_start_time", None)
    (now,) = nights_of(Nights())
    assert abs((datetime.now(UTC).date() - now).days) <= 1


def test_the_last_night_is_that_of_the_observatorys_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine in the morning in Sydney: the night whose date is that of the morning, of which UT knows nothing yet."""
    monkeypatch.setattr(runtime.flow_run, "scheduled_start_time", datetime(2013, 11, 20, 22, tzinfo=UTC))
    monkeypatch.setenv("NIRFLOW_NIGHTLY_TIMEZONE", "Australia/Sydney")
    assert nights_of(Nights()) == [NIGHT]


@pytest.fixture
def deployed(prefect_server: ServerAddress) -> Iterator[Callable[..., tuple[str, Any]]]:
    """Run a flow as a worker does, from a run of a deployment; return the run's name and final state."""
    made: list[Any] = []

    def run(of: Flow[Any, Any], scheduled: datetime, **parameters: Any) -> tuple[str, Any]:
        with get_client(sync_client=True) as client, prompt_heartbeats(of) as flow:
            flow_id = client.create_flow(of)
            deployment = client.create_deployment(flow_id, f"test {uuid.uuid4().hex}")
            made.append(deployment)
            run = client.create_flow_run_from_deployment(
                deployment, parameters=parameters, state=Scheduled(scheduled_time=scheduled)
            )
            state: Any = run_flow(flow, flow_run=run, return_type="state")
            name = client.read_flow_run(run.id).name
            client.delete_flow_run(run.id)
        return name, state

    yield run
    with get_client(sync_client=True) as client:
        for deployment in made:
            client.delete_deployment(deployment)


@pytest.mark.parametrize(("flow", "kind"), [(nightly, "night"), (calibrations, "calibrations")])
def test_a_scheduled_run_has_no_parameters_and_is_for_the_last_night(
    known: Store, deployed: Callable[..., tuple[str, Any]], flow: Flow[Any, Any], kind: str
) -> None:
    """A night without frames is not a failure: it was cloudy, or another instrument was used."""
    name, state = deployed(flow, datetime(2013, 11, 21, 12, tzinfo=UTC))
    assert name == f"{kind} 2013-11-21"
    assert state.name == "Completed"
    assert state.message.startswith("The store has no frames of 2013-11-21.")


def test_a_run_of_a_form_is_named_after_its_nights_and_its_sequence(
    known: Store, deployed: Callable[..., tuple[str, Any]]
) -> None:
    now = datetime.now(UTC)
    name, state = deployed(nightly, now, request={"first": "2013-11-21", "last": "2013-11-23"})
    assert name == "night 2013-11-21 to 2013-11-23"
    error = state.result(raise_on_failure=False)
    assert isinstance(error, NothingToDoError)
    assert "no frames of 2013-11-21 to 2013-11-23" in str(error)
    assert "nirflow up --watch DIR" in error.remedy
    name, state = deployed(
        arrival, now, request={"sequence": "nirflow.sequence.2013-11-21.science.Y.0a0a0a0a"}
    )
    assert name == "science Y 2013-11-21"
    assert "no frames of 2013-11-21.science.Y.0a0a0a0a" in str(state.result(raise_on_failure=False))


def test_calibrations_are_not_reduced_as_a_science_sequence(
    known: Store,
    prefect_server: ServerAddress,
    record: Callable[..., FrameRecord],
    facts: Callable[..., FrameFacts],
) -> None:
    dark = facts(kind="dark", name="S1.fits")
    known.frames.ingest([record("S1.fits", facts=dark)])
    sequence = Sequence.of(dark)
    assert sequence is not None
    with prompt_heartbeats(arrival) as run, pytest.raises(NothingToDoError, match="not of science") as caught:
        run(SequenceRequest(sequence=sequence.name))
    assert "calibrations" in caught.value.remedy


def test_frames_of_other_nights_are_nothing_to_do(
    known: Store, prefect_server: ServerAddress, record: Callable[..., FrameRecord]
) -> None:
    known.frames.ingest([record("S1.fits")])
    with prompt_heartbeats(nightly) as run, pytest.raises(NothingToDoError):
        run(NightlyRequest(first=date(2014, 1, 1)))
    with (
        prompt_heartbeats(nightly) as run,
        pytest.raises(NothingToDoError, match="no science of M 42") as caught,
    ):
        run(NightlyRequest(first=NIGHT, targets=("M 42",)))
    assert caught.value.remedy == "Its targets are: FIELD."
    with prompt_heartbeats(calibrations) as run, pytest.raises(NothingToDoError):
        run(CalibrationsRequest(first=NIGHT))  # there is science only


def test_unattended_runs_replace_grown_products_and_use_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NIRFLOW_WATCH_CHECK", '{"shape": null, "saturated_fraction": 0.25}')
    monkeypatch.setenv("NIRFLOW_WORKER_THREADS", "3")
    options = options_of(
        Settings(), only=("flat",), parameters=ReductionParameters.model_validate({"dark": {"high": 4}})
    )
    assert (options.overwrite, options.threads, options.only) == (True, 3, ("flat",))
    assert options.parameters.check.saturated_fraction == 0.25
    assert options.parameters.check.shape is None
    assert options.parameters.dark.high == 4


def test_a_night_is_reduced_with_the_calibrations_and_the_grouping_of_its_form() -> None:
    request = NightlyRequest.model_validate(
        {
            "first": NIGHT,
            "calibrations": {"use": [{"kind": "dark", "product": "S1_dark"}], "allow_missing": ["flat"]},
            "advanced": {"join": True, "parameters": {"stack": {"low": 4.5}}},
        }
    )
    options = asked_options(Settings(), request)
    assert options.choice == Choice(use={"dark": "S1_dark"}, allow_missing=frozenset({"flat"}))
    assert (options.join, options.across_nights, options.parameters.stack.low) == (True, False, 4.5)


# Files that are not recorded


def test_new_files_of_the_watched_folders_are_recorded_once(
    known: Store, tmp_path: Path, prefect_server: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    (raw / "deep").mkdir(parents=True)
    (raw / "S1.fits").write_bytes(raw_bytes(1))
    (raw / "deep" / "S2.fits").write_bytes(raw_bytes(2))
    (raw / "S3.fits").write_bytes(raw_bytes(3)[:3000])
    (raw / "notes.txt").write_text("windy")
    monkeypatch.setenv("NIRFLOW_WATCH_FOLDERS", f'["{raw}", "{tmp_path / "unmounted"}"]')
    settings = Settings()
    assert recorded(settings) == 3
    found = {frame.name: frame for frame in known.frames.of_nights(NIGHT, NIGHT)}
    assert set(found) == {"S1.fits", "S2.fits"}
    assert found["S2.fits"].paths == (raw / "deep" / "S2.fits",)
    assert recorded(settings) == 0  # an incomplete file is recorded as such, until it changes
    (raw / "S3.fits").write_bytes(raw_bytes(3))  # it is now complete
    (raw / "S4.fits").write_bytes(raw_bytes(4))
    assert recorded(settings) == 2
    assert {frame.name for frame in known.frames.of_nights(NIGHT, NIGHT)} == {
        f"S{n}.fits" for n in (1, 2, 3, 4)
    }


def test_a_file_that_is_moved_away_meanwhile_does_not_end_the_run(
    known: Store, tmp_path: Path, prefect_server: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in (1, 2):
        (raw / f"S{number}.fits").write_bytes(raw_bytes(number))
    monkeypatch.setenv("NIRFLOW_WATCH_FOLDERS", f'["{raw}"]')
    original = Scanner.find

    def find(scanner: Scanner, folder: str) -> Iterator[tuple[str, Signature]]:
        yield from original(scanner, folder)
        (raw / "S1.fits").unlink()  # to the archive

    monkeypatch.setattr(Scanner, "find", find)
    assert recorded(Settings()) == 2
    assert [frame.name for frame in known.frames.of_nights(NIGHT, NIGHT)] == ["S2.fits"]


def test_hidden_files_are_still_being_copied(
    known: Store, tmp_path: Path, prefect_server: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    (raw / ".rsync-partial").mkdir(parents=True)
    (raw / "S1.fits").write_bytes(raw_bytes(1))
    (raw / ".rsync-partial" / "S3.fits").write_bytes(raw_bytes(3))
    monkeypatch.setenv("NIRFLOW_WATCH_FOLDERS", f'["{raw}"]')
    assert recorded(Settings()) == 1


def test_without_watched_folders_nothing_is_searched(known: Store) -> None:
    assert record_new_files(Settings()) == 0

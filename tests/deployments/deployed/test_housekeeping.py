"""Housekeeping in the Prefect server, and its report; the store has its own tests."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import flow, get_client, runtime, task
from prefect.client.schemas.filters import ArtifactFilter, FlowFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Completed, Crashed, Pending, Running, Scheduled

from calib_store.curation.verify import verify
from calib_store.model.records import Product
from calib_store.server.postgres import PostgresAddress
from calib_store.store import Store
from deployments.access.policy_bodies import USER_LABEL
from deployments.deployed import housekeeping as module
from deployments.deployed.attempts import end_steps_of_ended_runs
from deployments.deployed.housekeeping import (
    DamagedStoreError,
    Housekept,
    KeptTooShortError,
    forget_runs,
    housekeeping,
)
from deployments.deployed.requests import HousekeepingRequest
from deployments.settings.server_settings import ServerAddress
from tasks.prefect_internals.heartbeats import prompt_heartbeats

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


def test_only_runs_that_ended_long_ago_are_deleted(
    prefect_server: ServerAddress, postgres_address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    made = flow(lambda: None, name=f"test {uuid.uuid4().hex}")
    with get_client(sync_client=True) as client:
        old = [client.create_flow_run(made, state=Completed()).id for _ in range(5)]
        today = client.create_flow_run(made, state=Completed()).id
        going_on = client.create_flow_run(made, state=Running()).id
        to_come = client.create_flow_run(made, state=Scheduled()).id
        with postgres_address.connect("prefect") as connection:
            ended = LONG_AGO + timedelta(days=1)
            connection.execute("UPDATE flow_run SET end_time = %s WHERE id = ANY(%s)", (ended, old))
        assert forget_runs(LONG_AGO) == 0
        assert forget_runs(LONG_AGO + timedelta(days=30)) == 5
        left = {run.id for run in client.read_flow_runs(limit=200)}
        assert left.isdisjoint(old)
        assert {today, going_on, to_come} <= left
        for one in (today, going_on, to_come):
            client.delete_flow_run(one)


@pytest.fixture
def run(
    database_url: str, tmp_path: Path, prefect_server: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Housekept]]:
    """Run housekeeping on the test's store, without deleting runs of other tests."""
    from tasks.support.workspace import close_stores

    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", database_url)
    with prompt_heartbeats(housekeeping) as ready:
        yield lambda **request: ready(HousekeepingRequest(**request))
    close_stores()


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """Return the age limit of each deletion of runs."""
    ages: list[timedelta] = []

    def forget(before: datetime) -> int:
        ages.append(datetime.now(UTC) - before)
        return 7

    monkeypatch.setattr(module, "forget_runs", forget)
    return ages


def text_of_last() -> str:
    of = ArtifactFilter.model_validate({"key": {"any_": ["housekeeping"]}})
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of)
    return str(max(found, key=lambda one: one.created).data)  # type: ignore[type-var, return-value, arg-type]


def message_of_last() -> str | None:
    of = FlowFilter.model_validate({"name": {"any_": ["housekeeping"]}})
    with get_client(sync_client=True) as client:
        (last,) = client.read_flow_runs(flow_filter=of, sort=FlowRunSort.START_TIME_DESC, limit=1)
    return last.state.message if last.state else None


def test_an_intact_store(
    run: Callable[..., Housekept], forgotten: list[timedelta], store: Store, add: Callable[..., Product]
) -> None:
    add()
    add()
    result = run()
    assert (result.checked, result.damaged, result.orphans, result.runs_forgotten) == (2, (), 0, 7)
    assert message_of_last() == "2 products checked, 0 files to delete, 7 runs deleted."
    assert timedelta(days=180) <= forgotten[0] < timedelta(days=180, minutes=1)
    assert run(verify=False, collect=False, keep_runs_days=3).checked == 0
    assert timedelta(days=3) <= forgotten[1] < timedelta(days=3, minutes=1)


def test_an_operator_cannot_delete_runs_that_the_settings_keep(
    run: Callable[..., Housekept],
    forgotten: list[timedelta],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labelled = housekeeping.with_options(flow_run_name=lambda: label_this_run("ana"))
    with prompt_heartbeats(labelled) as ready:
        with pytest.raises(KeptTooShortError, match="ana requested to delete runs after 179 days") as caught:
            ready(HousekeepingRequest(keep_runs_days=179))
        assert "180 or more" in caught.value.remedy
        assert forgotten == []
        for days in (180, 400, None):
            ready(HousekeepingRequest(keep_runs_days=days))
    assert [ages.days for ages in forgotten] == [180, 400, 180]


def label_this_run(user: str) -> str:
    """Label the run with its user, as the server does, and return the name."""
    with get_client(sync_client=True) as client:
        client.request(
            "PATCH",
            "/flow_runs/{id}/labels",
            path_params={"id": runtime.flow_run.id},
            json={USER_LABEL: user},
        )
    return "housekeeping"


def test_a_damaged_product_fails_the_run_after_everything_else_is_done(
    run: Callable[..., Housekept],
    forgotten: list[timedelta],
    store: Store,
    add: Callable[..., Product],
    tmp_path: Path,
) -> None:
    well, damaged, gone = add(), add(), add()
    for product in (damaged, gone):
        store.objects.path(product.sha256).chmod(0o644)  # type: ignore[attr-defined]
    store.objects.path(damaged.sha256).write_bytes(b"other")  # type: ignore[attr-defined]
    store.objects.path(gone.sha256).unlink()  # type: ignore[attr-defined]
    with pytest.raises(DamagedStoreError, match="2 products are missing or damaged") as caught:
        run()
    assert "nirflow cal verify --repair" in caught.value.remedy
    for product in (damaged, gone):
        assert f"{product.name} ({product.id})" in caught.value.message
    assert well.name not in caught.value.message
    assert len(forgotten) == 1
    text = text_of_last()
    assert "- 3 products read in full" in text
    assert "- 2 missing or damaged" in text
    assert "- 7 old runs deleted" in text
    assert store.objects.path(damaged.sha256).read_bytes() == b"other"  # type: ignore[attr-defined]
    # Once recorded, it does not send a notification every day.
    assert not verify(store, repair=True).well
    result = run()
    assert result.damaged == ()
    assert {one.rpartition(" ")[2] for one in result.noted} == {"missing"}
    assert "- 2 already recorded as damaged; they are not used" in text_of_last()


def test_a_disk_that_is_not_mounted_is_reported_and_nothing_collected(
    run: Callable[..., Housekept],
    forgotten: list[timedelta],
    store: Store,
    add: Callable[..., Product],
) -> None:
    add()
    root = store.objects.root  # type: ignore[attr-defined]
    root.rename(root.with_name("disk"))
    with pytest.raises(DamagedStoreError, match="1 product is missing") as caught:
        run()
    assert "no file of any product" in caught.value.remedy
    assert "Mount the disk" in caught.value.remedy
    assert len(forgotten) == 1
    assert not store.products()[0].damaged


def test_steps_of_runs_that_ended_long_ago_are_ended(
    prefect_server: ServerAddress, postgres_address: PostgresAddress
) -> None:
    made = flow(lambda: None, name=f"test {uuid.uuid4().hex}")
    step = task(lambda: None, name="step")
    with get_client(sync_client=True) as client:
        runs = [client.create_flow_run(made, state=state()).id for state in (Crashed, Running, Crashed)]
        steps = [
            client.create_task_run(step, run, dynamic_key=str(number), state=state()).id
            for number, (run, state) in enumerate(
                [
                    (runs[0], Running),
                    (runs[0], Pending),
                    (runs[0], Completed),
                    (runs[1], Running),
                    (runs[2], Running),
                ]
            )
        ]
        with postgres_address.connect("prefect") as connection:
            ended = datetime.now(UTC) - timedelta(hours=2)
            connection.execute("UPDATE flow_run SET end_time = %s WHERE id = %s", (ended, runs[0]))
        assert end_steps_of_ended_runs() == 2
        states = [client.read_task_run(one).state_name for one in steps]
        # The run of the last one has just ended: the server may not have recorded everything.
        assert states == ["Crashed", "Crashed", "Completed", "Running", "Running"]
        assert end_steps_of_ended_runs() == 0
        for one in runs:
            client.delete_flow_run(one)

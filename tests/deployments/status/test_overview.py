"""What arrives, waits and runs is gathered from what can be asked, and what cannot be asked is stated."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from calib_store.model.records import FrameRecord, Run
from calib_store.store import Store
from deployments.notices.outbox import post
from deployments.prefect_api.rest import Rest, RestError
from deployments.prefect_api.space_wait import SpaceWait
from deployments.settings.all_settings import NotifySettings, Settings
from deployments.status.arriving import SILENCE, ArrivingFile, WatcherRecord, write_record
from deployments.status.due import KnownRun
from deployments.status.overview import Overview, overview
from deployments.status.prefect_runs import server_facts
from deployments.status.supervisor_state import PartState, ServiceState
from deployments.status.wording import lines, restarts
from imaging.frames.facts import FrameFacts

WAITING = "2013-11-21.science.Y.1f0c9a2b"


class FakeRest(Rest):
    """A server with a queue that somebody switched off, and runs of a sequence and a night."""

    def __init__(self, sequence: str) -> None:
        self.sequence = sequence

    def post(self, path: str, body: Any) -> Any:
        due = "expected_start_time" in body.get("flow_runs", {})
        run = {"start_time": "2026-01-20T00:00:00Z", "deployment_id": "1", "parameters": {}}
        running = {**run, "state_name": "Running", "state_type": "RUNNING"}
        waits = {**run, "state_name": "Scheduled", "state_type": "SCHEDULED", "name": "night"}
        runs = [{**running, "name": "science Y A", "parameters": {"request": {"sequence": self.sequence}}}]
        answers: dict[str, Any] = {
            "/flow_runs/filter": [waits] if due else runs,
            "/deployments/filter": [
                {"id": "1", "name": "arrival", "paused": False, "schedules": []},
                {"id": "2", "name": "nightly", "paused": False, "schedules": [{"active": False}]},
                {"id": "3", "name": "decide", "paused": True, "schedules": []},
            ],
            "/automations/filter": [{"name": "a", "enabled": True}, {"name": "b", "enabled": False}],
            "/work_pools/filter": [{"name": "nirflow", "is_paused": True}],
            "/work_pools/nirflow/queues/filter": [{"name": "science", "is_paused": True}],
        }
        return answers[path]


def test_everything_that_can_be_asked_is_there(
    store: Store, database_url: str, tmp_path: Path, record: Callable[..., FrameRecord],
    facts: Callable[..., FrameFacts],
) -> None:  # fmt: skip
    settings = Settings(data_dir=tmp_path, database_url=database_url)
    now = datetime.now(UTC) + timedelta(seconds=5)
    ended = now - timedelta(days=3)
    store.runs.add(
        Run(id=uuid4(), nights=(date(2013, 11, 21),), flow="arrival", sequence=WAITING, started=ended, ended=ended,
            waits_for=("dark", "flat"), report={"flow_run": "science Y W"})
    )  # fmt: skip
    bad = record("bad.fits", facts=None, quarantine="it ends early.")
    store.frames.ingest([record("S1.fits"), bad])
    write_record(
        tmp_path,
        WatcherRecord(
            written=now - timedelta(seconds=1), number=1, trouble="The disk is full.",
            files=(ArrivingFile(path="/raw/S2.fits", size=12_000_000, since=now, reason="it ends early"),),
        ),
    )  # fmt: skip
    notify = NotifySettings(webhook=SecretStr("ftp://x"))
    post(settings.model_copy(update={"notify": notify}), "a night", "it failed")
    found = overview(settings, FakeRest(WAITING), watched=(tmp_path,), now=now)
    assert found.sequences is not None
    assert [(one.stage, one.label[:9]) for one in found.sequences] == [
        ("quiet", "science Y"),
        ("running", "science Y"),
    ]
    assert found.unknown == ()
    assert found.free is not None
    assert found.free > 0
    shown = [
        f"{line.topic}: {line.text}" for line in lines(found.model_copy(update={"free": 7 * 10**9}), "/data")
    ]
    assert shown[:2] == [
        "Running: science Y A, since 2026-01-20 00:00 UT", "Queued: night, since 2026-01-20 00:00 UT"
    ]  # fmt: skip
    assert shown[2].startswith("Quiet time: science Y ")
    assert shown[2].endswith(" s unless another frame arrives")
    assert shown[3:] == [
        "Arriving: new frames are not recorded at present: The disk is full.",
        "Arriving: 1 file (S2.fits), 12.0 MB until now",
        f"Incomplete: S2.fits: it ends early, unchanged since {now:%Y-%m-%d %H:%M} UT",
        "Quarantine: bad.fits: it ends early",
        f"Notifications: “a night” of {found.notices[0].made:%Y-%m-%d %H:%M} UT is not delivered and is sent again: "
        "the webhook: UnsupportedProtocol",
        *(f"Switched off: {what}; it starts nothing until somebody switches it on in the UI" for what in (
            "the automation “b”", "the schedule of nightly", "the deployment decide", "the work pool nirflow",
            "the work queue science",
        )),
        "Free disk: 7.0 GB in /data",
    ]  # fmt: skip
    alone = overview(settings, None, why_not="It is down.", watched=(tmp_path,), now=now)
    waits = next(line.text for line in lines(alone, "") if line.topic == "Waiting")
    assert waits == (
        f"science Y W, for a dark and a flat since {ended:%Y-%m-%d %H:%M} UT, "
        f"until {ended + timedelta(days=settings.nightly.waiting_days):%Y-%m-%d} (nirflow why {WAITING})"
    )


def test_what_cannot_be_asked_is_stated(tmp_path: Path) -> None:
    class Refusing(Rest):
        def __init__(self) -> None:
            pass

        def post(self, path: str, body: Any) -> Any:
            raise RestError("It refuses.", remedy="Give the password.")

    now = datetime(2026, 1, 20, tzinfo=UTC)
    write_record(tmp_path, WatcherRecord(written=now - SILENCE))
    found = overview(Settings(data_dir=tmp_path), Refusing(), watched=(tmp_path,), now=now)
    assert (found.sequences, found.runs, found.arriving, found.quarantined, found.switched_off) == (None,) * 5
    assert [line.text for line in lines(found, "/data") if line.topic == "Not known"] == [
        "the runs in progress, and what is switched off. It refuses. Give the password.",
        "the sequences that arrived or wait for calibrations, and the quarantine. The database is not running.",
        "the files that are still arriving. No watcher runs with this data folder; it reported last at "
        "2026-01-19 23:59 UT.",
    ]
    unreachable = Settings(data_dir=tmp_path, database_url="postgresql://nobody@127.0.0.1:1/none")
    problem, watcher = overview(unreachable, FakeRest("")).unknown
    assert "127.0.0.1" in problem.why
    assert watcher.what == "the files that are still arriving"
    assert overview(unreachable, FakeRest(""), watched=()).unknown == (problem,)  # nothing is watched


def test_a_part_that_restarts_often_is_reported() -> None:
    parts = (
        PartState(name="worker", restarts=9, recent=3, last_end="ended with code 1", log=Path("w.log")),
        PartState(name="watcher", restarts=9, recent=2),
    )
    state = ServiceState(pid=1, birth="", started=0.0, parts=parts)
    assert [line.text for line in restarts(state)] == [
        "the worker was restarted 3 times within the last hour; it ended with code 1; see w.log"
    ]


@pytest.mark.parametrize(
    ("state", "text"),
    [("Running", "science Y A"), ("Submitting", "science Y A (starting)"), ("Late", "science Y A"),
     ("Cancelling", "science Y A (being cancelled)"), ("Blocked", "science Y A (Blocked)")],
)  # fmt: skip
def test_states_of_runs_have_plain_names(state: str, text: str) -> None:
    run = KnownRun(id="1", name="science Y A", state=state, stage="queued", since=None)
    assert [one.text for one in lines(Overview(at=datetime.now(UTC), runs=(run,)), "")] == [text]


def test_a_run_that_waits_for_disk_space_is_shown_with_what_is_free(tmp_path: Path) -> None:
    wait = SpaceWait(folder=tmp_path, needed=10**15, attempts=2, since=datetime(2026, 1, 20, 4, tzinfo=UTC))
    run = {"name": "science Y A", "state_name": "AwaitingRetry", "state_type": "SCHEDULED", "start_time": None,
           "labels": wait.labels}  # fmt: skip

    class Waiting(FakeRest):
        def post(self, path: str, body: Any) -> Any:
            due = "expected_start_time" in body.get("flow_runs", {})
            return ([run] if due else []) if path == "/flow_runs/filter" else super().post(path, body)

    (state,) = server_facts(Waiting(""), Settings()).runs
    assert state.space == wait
    found = Overview(at=datetime.now(UTC), runs=(state,))
    (text,) = [line.text for line in lines(found, "") if line.topic == "Queued"]
    assert re.fullmatch(
        r"science Y A waits for disk space: .* free, 1000000\.0 GB needed \(.*\), since 2026-01-20 04:00 UT, "
        "after attempt 2",
        text,
    )
    run |= {"state_name": "Running", "state_type": "RUNNING"}  # it had to wait once
    (state,) = server_facts(Waiting(""), Settings()).runs
    assert state.space is None

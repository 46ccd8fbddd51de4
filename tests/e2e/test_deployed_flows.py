"""The deployed flows on a small night, one after the other as in a season; each test continues from the
previous one.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from night_lab import Run
from observatory import CALIBRATIONS, NIGHT, Observatory
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter

from calib_store.model.records import Run as StoredRun
from calib_store.store import Store
from deployments.deployed.arrival import arrival
from deployments.deployed.common import NothingToDoError
from deployments.deployed.housekeeping import DamagedStoreError, housekeeping
from deployments.deployed.nightly import calibrations, nightly
from deployments.deployed.requests import (
    CalibrationsRequest,
    HousekeepingRequest,
    NightlyRequest,
    SequenceRequest,
)
from flows.run.progress import _QUIET
from flows.run.report import NightReport
from imaging.frames.sequences import Sequence
from imaging.simulator.truth import NightTruth


def test_a_sequence_without_calibrations_waits_for_them(observatory: Observatory) -> None:
    observatory.come("science")
    assert observatory.note() == 5
    report: NightReport = observatory.run(arrival, SequenceRequest(sequence=observatory.sequence))
    assert report.products == ()
    (failure,) = report.failures
    assert failure.waits_for == "dark"
    (waiting,) = observatory.store.runs.of_night(NIGHT)
    assert (waiting.sequence, waiting.waits_for) == (observatory.sequence, ("dark",))
    assert observatory.prefect.runs_by_key == {}
    assert "waiting" in observatory.of_night("index.html").read_text().lower()


def test_new_calibrations_start_only_the_waiting_sequence(observatory: Observatory) -> None:
    _others_wait(observatory.store)
    observatory.come(*CALIBRATIONS)
    with pytest.raises(NothingToDoError):  # new files are recorded by the watcher
        observatory.run(calibrations, CalibrationsRequest(first=NIGHT))
    assert observatory.note() == 13
    report: NightReport = observatory.run(calibrations, CalibrationsRequest(first=NIGHT))
    assert report.failures == ()
    assert sorted(p.kind for p in report.products) == ["bpm", "dark", "flat"]
    (started,) = observatory.prefect.runs_by_key.values()
    request = started["body"]["parameters"]["request"]
    assert request["sequence"] == observatory.sequence
    assert started["deployment_id"] == "backlog"
    assert started["body"]["state"]["message"] == "now available: dark"


def _others_wait(store: Store) -> None:
    """Sequences without result: in a band without flats, of unknown frames, and one that no longer waits."""
    known = store.frames.of_nights(NIGHT, NIGHT, kinds=("object",))[0]
    assert known.facts is not None
    facts = known.facts.model_copy(update={"name": "J.fits", "filter": "J", "filter_id": "J_G0802"})
    store.frames.note([("1" * 64, "J.fits", facts, None, {})])
    band = Sequence.of(facts)
    assert band is not None
    now = datetime.now(UTC)
    report = NightReport(out=Path("out"), started=now, seconds=1).model_dump(mode="json")
    for sequence, waits_for in (
        (band.name, ("dark", "flat")),
        (f"{NIGHT}.science.Y.00000000", ("dark",)),
        (f"{NIGHT}.science.Y.11111111", ()),
    ):
        store.runs.add(
            StoredRun(
                id=uuid4(), nights=(NIGHT,), flow="arrival", sequence=sequence, waits_for=waits_for,
                started=now, ended=now, report=report,
            )
        )  # fmt: skip


def test_the_sequence_is_reduced_and_no_longer_waits(observatory: Observatory) -> None:
    report: NightReport = observatory.run(arrival, SequenceRequest(sequence=observatory.sequence))
    assert report.failures == ()
    (image,) = [p for p in report.products if p.kind == "image"]
    assert observatory.of_night(image.name).is_file()
    assert image.name in observatory.of_night("index.html").read_text()
    assert str(NIGHT) in (observatory.lab.folder / "nights" / "index.html").read_text()
    again: NightReport = observatory.run(calibrations, CalibrationsRequest(first=NIGHT))
    assert all(p.reused for p in again.products)
    assert observatory.prefect.runs_by_key == {}


def test_the_night_reuses_finished_products_and_is_tagged(observatory: Observatory) -> None:
    report: NightReport = observatory.run(nightly, NightlyRequest(first=NIGHT))
    assert report.failures == ()
    assert {p.kind for p in report.products} == {"dark", "bpm", "flat", "image"}
    assert all(p.reused for p in report.products)
    assert len(observatory.products("image")) == 1
    run = UUID(report.url.rpartition("/")[2])
    with get_client(sync_client=True) as client:
        tags = set(client.read_flow_run(run).tags)
        of = ArtifactFilter.model_validate({"flow_run_id": {"any_": [run]}})
        found = client.read_artifacts(artifact_filter=of)
    assert {str(NIGHT), "Y"} <= tags
    assert "DK" not in tags
    (page,) = [one for one in found if one.key == f"page-{NIGHT}"]
    assert f"(/nights/{NIGHT}/)" in page.data  # whatever the name and the port of the server
    (progress,) = [one for one in found if one.type == "progress"]
    assert progress.data == 100


def test_the_progress_of_a_night_counts_the_steps_that_it_takes(reduced: Run, night: NightTruth) -> None:
    science = len(night.of_role("science"))
    steps = [
        e.step for e in reduced.events if e.state in ("built", "reused", "failed") and e.step not in _QUIET
    ]
    assert len(steps) == 3 + science + science + 4  # dark, mask, flat; then those of the single group


def test_a_damaged_file_fails_the_housekeeping(
    observatory: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.deployed.housekeeping.forget_runs", lambda before: 0)
    well = observatory.run(housekeeping, HousekeepingRequest())
    assert well.damaged == ()
    assert well.checked == len(list(observatory.store.products()))
    (damaged, *_) = observatory.products("flat")
    path = observatory.store.objects.path(damaged.sha256)  # type: ignore[attr-defined]
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"0123456789")
    with pytest.raises(DamagedStoreError, match=damaged.name):
        observatory.run(housekeeping, HousekeepingRequest())
    of = ArtifactFilter.model_validate({"key": {"any_": ["housekeeping"]}})
    failed = FlowRunFilter.model_validate({"state": {"type": {"any_": ["FAILED"]}}})
    with get_client(sync_client=True) as client:
        texts = [str(one.data) for one in client.read_artifacts(artifact_filter=of, flow_run_filter=failed)]
    assert any(str(damaged.id) in text for text in texts)

"""``nirflow why``: the answer comes from the store, for a frame, a sequence or a night."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import Result

from calib_store.curation.certify import reject
from calib_store.model.records import FrameRecord, Run
from calib_store.store import Store
from flows.run.report import Failure, NightReport
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import Sequence

Nirflow = Callable[..., Result]
BEGAN = datetime(2013, 11, 21, 4, tzinfo=UTC)
NIGHT = date(2013, 11, 21)


@pytest.fixture
def raws(
    store: Store, own_store: None, facts: Callable[..., FrameFacts], record: Callable[..., FrameRecord]
) -> list[FrameRecord]:
    """Three frames of one sequence, in the store."""
    made = [
        record(
            f"S{n}.fits",
            facts=facts(name=f"S{n}.fits", kind="object", started=BEGAN + timedelta(minutes=n)),
        )
        for n in range(3)
    ]
    store.frames.ingest(made)
    return made


def said(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return " ".join(result.stdout.split())


def test_the_answer_for_a_frame_a_sequence_and_a_night(nirflow: Nirflow, raws: list[FrameRecord]) -> None:
    facts = raws[0].facts
    assert facts is not None
    sequence = Sequence.of(facts)
    assert sequence is not None
    for name in ("S1", "S1.fits", sequence.name, "2013-11-21", "20131121"):
        text = said(nirflow("why", name))
        assert "No run has reduced its 3 frames yet." in text
        assert "Next: Nothing: nirflow is not up." in text
        assert "To do: Start it: nirflow up" in text
    reported = json.loads(nirflow("why", "S1", "--json").stdout)
    (group,) = reported["groups"]
    assert (reported["night"], group["stage"], group["frames"]) == (
        "2013-11-21",
        "due",
        ["S0.fits", "S1.fits", "S2.fits"],
    )


def test_a_missing_calibration_and_a_rejected_frame(
    nirflow: Nirflow, raws: list[FrameRecord], store: Store, tmp_path: Path
) -> None:
    group = json.loads(nirflow("why", "S1", "--json").stdout)["groups"][0]
    failure = Failure(step="image", label=group["label"], message="no dark of 120 s", waits_for="dark")
    tried = datetime.now(UTC) + timedelta(seconds=1)
    report = NightReport(out=tmp_path, started=tried, seconds=1.0, failures=(failure,))
    store.runs.add(
        Run(
            id=uuid4(), nights=(NIGHT,), flow="night", started=tried, ended=tried, waits_for=("dark",),
            report=report.model_dump(mode="json"),
        )
    )  # fmt: skip
    text = said(nirflow("why", "S1"))
    assert f"waiting (since {tried:%Y-%m-%d %H:%M} UT)" in text
    assert "It waits for a dark: no dark of 120 s." in text
    assert "nirflow cal explain S0.fits --kind dark" in text
    frame = store.frames.with_sha256s([raws[2].sha256])[raws[2].sha256]
    reject(store, frame, author="Ana", reason="cloud")
    text = said(nirflow("why", "S2"))
    assert "Not used: S2.fits: rejected by Ana" in text
    assert "nirflow cal reinstate S2.fits" in text
    assert "S2.fits" not in json.loads(nirflow("why", "S1", "--json").stdout)["groups"][0]["frames"]


def test_what_the_store_does_not_know(nirflow: Nirflow, raws: list[FrameRecord]) -> None:
    nothing = nirflow("why", "2013-11-25")
    assert nothing.exit_code == 3
    assert "no raw frame of the night 2013-11-25" in nothing.stderr
    gone = nirflow("why", "2013-11-21.science.Y.00000000")
    assert gone.exit_code == 3
    assert "no frame of the sequence" in gone.stderr
    wrong = nirflow("why", "S77")
    assert wrong.exit_code == 2
    assert "Name a raw frame in the store, a sequence, or a night." in " ".join(wrong.stderr.split())


def test_a_frame_in_quarantine(
    nirflow: Nirflow, store: Store, own_store: None, record: Callable[..., FrameRecord]
) -> None:
    store.frames.ingest([record("S9.fits", facts=None, quarantine="it is truncated")])
    result = nirflow("why", "S9.fits")
    assert result.exit_code == 3
    assert "S9.fits is in quarantine: it is truncated. Fetch or correct its file:" in " ".join(
        result.stderr.split()
    )

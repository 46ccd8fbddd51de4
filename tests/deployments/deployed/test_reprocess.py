"""Frames for which the current rules choose other calibrations than previous rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from calib_store.curation.certify import reject
from calib_store.model.records import Decision, FrameRecord, Product
from calib_store.store import Store
from calib_store.tables.database import StoreError
from deployments.deployed.reprocess import reprocess, sequences_with_other_choices
from deployments.deployed.requests import ReprocessRequest
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import ServerAddress
from imaging.errors import NirflowError
from imaging.frames.facts import FrameFacts
from imaging.frames.sequences import night_in
from tasks.prefect_internals.heartbeats import prompt_heartbeats

NIGHT = date(2013, 11, 21)


@pytest.fixture
def chosen(
    store: Store, record: Callable[..., FrameRecord], facts: Callable[..., FrameFacts]
) -> Callable[..., str]:
    """Let the store choose and record a dark for a frame some days later; return the rules' version."""

    def choose(name: str, days: float = 0.0, **changes: Any) -> str:
        started = datetime(2013, 11, 21, 3, tzinfo=UTC) + timedelta(days=days)
        raw = record(name, facts=facts(name=name, started=started, **changes))
        store.frames.ingest([raw])
        assert raw.facts is not None
        match = store.match(raw.facts, "dark")
        store.record_decisions([Decision(raw.sha256, match, match.product)])
        return match.rules_version

    return choose


def names(found: dict[str, tuple[Any, ...]]) -> dict[date, list[str]]:
    """Return the names by night, each with one sequence, without the raw frames of the masters."""
    assert len({night_in(name) for name in found}) == len(found)
    return {
        night_in(name): sorted(frame.name for frame in frames if not frame.name.startswith("raw"))
        for name, frames in found.items()
    }


def test_sequences_for_which_a_better_calibration_is_available(
    store: Store, add: Callable[..., Product], chosen: Callable[..., str]
) -> None:
    first = add(hours=-48)
    version = chosen("a.fits")
    chosen("b.fits", 1.0)
    chosen("dark.fits", kind="dark")
    assert sequences_with_other_choices(store, version) == {}
    better = add(hours=1)
    assert better.id != first.id
    tomorrow = NIGHT + timedelta(days=1)
    assert names(sequences_with_other_choices(store, version)) == {NIGHT: ["a.fits"], tomorrow: ["b.fits"]}
    with pytest.raises(StoreError, match=re.escape(f"never had the rules 'another'. It has had {version}")):
        sequences_with_other_choices(store, "another")
    chosen("a.fits")  # a new choice was made for it meanwhile
    assert names(sequences_with_other_choices(store, version)) == {tomorrow: ["b.fits"]}


def test_a_sequence_is_compared_as_one_at_its_middle(
    store: Store, add: Callable[..., Product], facts: Callable[..., FrameFacts],
    record: Callable[..., FrameRecord],
) -> None:  # fmt: skip
    """Darks of the evening and the morning: each end of the sequence alone would get its own."""
    evening = datetime(2013, 11, 21, 1, tzinfo=UTC)
    frames = []
    for n in range(9):
        one = facts(name=f"{n}.fits", started=evening + timedelta(minutes=30 * n))
        frames.append(record(f"{n}.fits", facts=one))
    store.frames.ingest(frames)
    of = [one.facts for one in frames if one.facts is not None]
    add(hours=(of[0].middle - facts().middle).total_seconds() / 3600)
    add(hours=(of[8].middle - facts().middle).total_seconds() / 3600)
    alone = {match.product.id for one in of if (match := store.match(one, "dark")).product is not None}
    assert len(alone) == 2
    chosen = store.match(of[4], "dark")
    store.record_decisions([Decision(one.sha256, chosen, chosen.product) for one in frames])
    assert sequences_with_other_choices(store, chosen.rules_version) == {}
    better = add(hours=(of[4].middle - facts().middle).total_seconds() / 3600)
    assert store.match(of[0], "dark").product != better
    assert names(sequences_with_other_choices(store, chosen.rules_version)) == {
        NIGHT: [f"{n}.fits" for n in range(9)]
    }


def test_sequences_without_a_calibration_that_have_one_now(
    store: Store, add: Callable[..., Product], chosen: Callable[..., str]
) -> None:
    version = chosen("a.fits")
    assert sequences_with_other_choices(store, version) == {}
    add()
    assert names(sequences_with_other_choices(store, version)) == {NIGHT: ["a.fits"]}


def test_sequences_that_would_have_no_calibration_are_left_unchanged(
    store: Store, add: Callable[..., Product], chosen: Callable[..., str]
) -> None:
    only = add()
    version = chosen("a.fits")
    reject(store, only, author="Ana", reason="a test")
    assert sequences_with_other_choices(store, version) == {}


@pytest.fixture
def run(
    database_url: str, tmp_path: Path, prefect_server: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    from tasks.support.workspace import close_stores

    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", database_url)
    assert Settings().data_dir == tmp_path / "data"
    with prompt_heartbeats(reprocess) as ready:
        yield lambda return_state=False, **request: ready(
            ReprocessRequest(**request), return_state=return_state
        )
    close_stores()


def test_without_affected_products_there_is_nothing_to_do(
    run: Callable[..., Any], store: Store, add: Callable[..., Product]
) -> None:
    with pytest.raises(StoreError, match="never had the rules '7'"):
        run(rules_version="7")
    version = store.rules().version
    state = run(rules_version=version, return_state=True)
    assert state.is_completed()
    assert f"choose the same calibrations as {version} for" in state.message
    good = add()
    with pytest.raises(NirflowError, match="neither rejected nor superseded"):
        run(affected_by=good.name)
    with pytest.raises(NirflowError, match="nothing-like-it"):
        run(affected_by="nothing-like-it")
    reject(store, good, author="Ana", reason="a test")
    state = run(affected_by=good.name, return_state=True)
    assert state.is_completed()
    assert f"No valid product was made with {good.name}" in state.message

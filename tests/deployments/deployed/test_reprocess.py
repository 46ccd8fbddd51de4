"""For which frames the rules of now choose otherwise than those of then did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from calib_store.curation.certify import reject
from calib_store.model.records import Decision, FrameRecord, Product
from calib_store.store import Store
from calib_store.tables.database import StoreError
from deployments.deployed.common import NothingToDoError
from deployments.deployed.reprocess import chosen_otherwise, reprocess
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
    """Have the store choose a dark for a frame some days later, and note its choice; gives the rules' version."""

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
    """By night, of which each has one sequence; without the raw frames that the masters are said to be of."""
    assert len({night_in(name) for name in found}) == len(found)
    return {
        night_in(name): sorted(frame.name for frame in frames if not frame.name.startswith("raw"))
        for name, frames in found.items()
    }


def test_sequences_for_which_something_better_came(
    store: Store, add: Callable[..., Product], chosen: Callable[..., str]
) -> None:
    first = add(hours=-48)
    version = chosen("a.fits")
    chosen("b.fits", 1.0)
    chosen("dark.fits", kind="dark")
    assert chosen_otherwise(store, version) == {}
    better = add(hours=1)
    assert better.id != first.id
    tomorrow = NIGHT + timedelta(days=1)
    assert names(chosen_otherwise(store, version)) == {NIGHT: ["a.fits"], tomorrow: ["b.fits"]}
    with pytest.raises(StoreError, match=f"has had no rules 'another'. It has had {version}"):
        chosen_otherwise(store, "another")
    chosen("a.fits")  # it was chosen for again meanwhile
    assert names(chosen_otherwise(store, version)) == {tomorrow: ["b.fits"]}


def test_a_sequence_is_judged_as_a_whole_by_its_middle(
    store: Store, add: Callable[..., Product], facts: Callable[..., FrameFacts],
    record: Callable[..., FrameRecord],
) -> None:  # fmt: skip
    """Darks of the evening and the morning: each end of the sequence would have its own, were it asked alone."""
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
    assert chosen_otherwise(store, chosen.rules_version) == {}
    better = add(hours=(of[4].middle - facts().middle).total_seconds() / 3600)
    assert store.match(of[0], "dark").product != better
    assert names(chosen_otherwise(store, chosen.rules_version)) == {NIGHT: [f"{n}.fits" for n in range(9)]}


def test_what_had_nothing_and_has_something_now(
    store: Store, add: Callable[..., Product], chosen: Callable[..., str]
) -> None:
    version = chosen("a.fits")
    assert chosen_otherwise(store, version) == {}
    add()
    assert names(chosen_otherwise(store, version)) == {NIGHT: ["a.fits"]}


def test_what_would_have_nothing_any_more_is_left_alone(
    store: Store, add: Callable[..., Product], chosen: Callable[..., str]
) -> None:
    only = add()
    version = chosen("a.fits")
    reject(store, only, author="Ana", reason="a test")
    assert chosen_otherwise(store, version) == {}


@pytest.fixture
def run(
    database_url: str, tmp_path: Path, prefect_server: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    from tasks.support.workspace import close_stores

    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", database_url)
    assert Settings().data_dir == tmp_path / "data"
    with prompt_heartbeats(reprocess) as ready:
        yield lambda **request: ready(ReprocessRequest(**request))
    close_stores()


def test_where_nothing_was_spoilt_there_is_nothing_to_do(
    run: Callable[..., Any], store: Store, add: Callable[..., Product]
) -> None:
    with pytest.raises(StoreError, match="has had no rules '7'"):
        run(rules_version="7")
    version = store.rules().version
    with pytest.raises(NothingToDoError, match=f"no other calibration than {version} did") as caught:
        run(rules_version=version)
    assert "nirflow cal explain" in caught.value.remedy
    good = add()
    with pytest.raises(NirflowError, match="neither rejected nor superseded"):
        run(affected_by=good.name)
    with pytest.raises(NirflowError, match="nothing-like-it"):
        run(affected_by="nothing-like-it")

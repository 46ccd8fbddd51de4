"""The final states of the deployed flows, the places of their products, and the pages that they write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_client
from prefect.states import State
from waiting import PATIENCE, wait_until

from calib_store.curation.certify import reject
from calib_store.model.records import Frame, FrameRecord, InputRef, Product
from calib_store.store import Store
from calib_store.tables.locks import alone_with
from deployments.arrivals.selection import frames_of_nights
from deployments.deployed import common as running
from deployments.deployed import reprocess
from deployments.deployed.common import (
    IncompleteError,
    UnusableFramesError,
    ended,
    options_of,
    place_of,
    reduce_frames,
    write_pages,
)
from deployments.deployed.requests import ReprocessRequest
from deployments.settings.all_settings import Settings
from deployments.settings.server_settings import ServerAddress
from flows.run.report import Failure, Kept, NightReport
from imaging.frames.facts import FrameFacts
from tasks.prefect_internals.heartbeats import prompt_heartbeats
from tasks.support.references import LeftOut, ProductRef
from tasks.support.workspace import Workspace

NIGHT = date(2013, 11, 21)
WAITS = Failure(step="science", label="science Y", message="no dark serves", waits_for="dark")
FAILED = Failure(step="align", label="science J", message="0 stars to match; 3 are needed.")


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    from tasks.support.workspace import close_stores

    monkeypatch.setenv("NIRFLOW_DATABASE_URL", database_url)
    yield Settings(data_dir=tmp_path / "data", nights_dir=tmp_path / "nights")
    close_stores()


def report(*failures: Failure, products: int = 1, started: datetime | None = None) -> NightReport:
    made = ProductRef(id="0" * 32, kind="dark", name="d.fits", sha256="0" * 64, recipe_key="k")
    return NightReport(
        products=(made,) * products, failures=failures, out=Path("out"), seconds=1.0,
        started=started or datetime.now(UTC),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("failures", "name", "message"),
    [
        ((), "Completed", "2 made, 0 reused, 0 failed, 0 waiting."),
        (
            (WAITS,), "Waiting",
            "2 made, 0 reused, 0 failed, 1 waiting. science Y waits for a dark.",
        ),
        (
            (WAITS, FAILED), "Incomplete",
            "2 made, 0 reused, 1 failed, 1 waiting. science J: 0 stars to match; 3 are needed. "
            "science Y waits for a dark.",
        ),
    ],
)  # fmt: skip
def test_a_run_ends_with_a_message_about_its_outcome(
    failures: tuple[Failure, ...], name: str, message: str
) -> None:
    """A mail about the end of a night contains the message; an Incomplete run sends a notification."""
    made = report(*failures, products=2)
    state = ended(made)
    assert (state.name, state.message, state.is_failed()) == (name, message, name == "Incomplete")
    assert state.is_completed() == (name == "Completed")  # only that is green
    if name == "Completed":
        assert state.result() == made
    else:
        with pytest.raises(IncompleteError, match="1 waiting") as caught:
            state.result()
        assert caught.value.report == made


def test_frames_left_out_are_in_the_message() -> None:
    """A stack of one frame of nine completes; the message must show that without opening the page."""
    left = tuple(LeftOut(name=f"S{n}.fits", reason="0 stars to match") for n in range(8))
    made = report().model_copy(update={"left_out": left})
    assert made.verdict() == "1 made, 0 reused, 0 failed, 0 waiting, 8 left out."


@pytest.mark.parametrize(
    ("given", "lost", "name"), [(10, 1, "Completed"), (9, 1, "Incomplete"), (72, 63, "Incomplete")]
)
def test_a_product_that_lacks_more_than_a_tenth_of_its_group_is_incomplete(
    given: int, lost: int, name: str
) -> None:
    frames = tuple(f"S{n}.fits" for n in range(given))
    left = tuple(LeftOut(name=one, reason="0 stars to match") for one in frames[given - lost :])
    (made,) = report().products
    made = made.model_copy(update={"inputs": frames, "left_out": left})
    state = ended(report().model_copy(update={"products": (made,)}))
    assert state.name == name
    if name == "Incomplete":
        assert state.message is not None
        assert f"d.fits lacks {lost} of {given} frames (0 stars to match: " in state.message
        assert all(one.name in state.message for one in left)


def test_frames_that_failed_before_the_recipe_are_counted_in_the_group() -> None:
    """A frame whose sky could not be subtracted is not among the inputs of the stack."""
    (made,) = report().products
    left = tuple(LeftOut(name=f"lost{n}.fits", reason="no sky") for n in range(2))
    made = made.model_copy(update={"inputs": tuple(f"S{n}.fits" for n in range(18)), "left_out": left})
    assert not report().model_copy(update={"products": (made,)}).incomplete
    made = made.model_copy(update={"inputs": made.inputs[:17]})
    assert report().model_copy(update={"products": (made,)}).incomplete


def test_a_product_that_was_not_replaced_leaves_the_run_incomplete() -> None:
    kept = Kept(old="d.fits (12345678)", reason="7 of its 10 frames are missing: a, b")
    state = ended(report().model_copy(update={"kept": (kept,)}))
    assert state.name == "Incomplete"
    assert state.message is not None
    assert "d.fits (12345678) was kept: 7 of its 10 frames are missing: a, b." in state.message


def test_a_page_that_cannot_be_written_is_logged_and_the_others_are_written(
    settings: Settings, store: Store, record: Callable[..., FrameRecord], facts: Callable[..., FrameFacts],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    from flows.page import write

    days = [NIGHT, NIGHT + timedelta(days=1)]
    for n, day in enumerate(days):
        name = f"S{n}.fits"
        started = datetime(day.year, day.month, day.day, 3, tzinfo=UTC)
        store.frames.ingest([record(name, facts=facts(name=name, started=started))])
    real = write.write_night_page

    def fails(store: Store, night: date, folder: Path) -> Path:
        if night == NIGHT:
            raise KeyError("coadds")
        return real(store, night, folder)

    monkeypatch.setattr(write, "write_night_page", fails)
    write_pages(settings, days)
    assert "The page of 2013-11-21 failed (KeyError: 'coadds')" in caplog.text
    assert (settings.nights / "2013-11-22" / "index.html").is_file()
    assert (settings.nights / "index.html").is_file()
    assert (settings.nights / "trends.html").is_file()


def test_the_server_distinguishes_incomplete_from_completed(prefect_server: ServerAddress) -> None:
    made = report(FAILED)

    @flow(name="test of an end")
    def part() -> State[NightReport]:
        return ended(made)

    with prompt_heartbeats(part) as run:
        state: Any = run(return_state=True)
    with get_client(sync_client=True) as client:
        known = client.read_flow_run(state.state_details.flow_run_id).state
    assert known is not None
    assert (known.type.value, known.name, known.message) == ("FAILED", "Incomplete", made.verdict())


def test_a_sequence_waits_only_for_calibrations_missing_for_its_science() -> None:
    flat = Failure(step="flat", label="flat Ks", message="no dark", waits_for="dark")
    made = report(flat, FAILED)
    assert made.awaited(by_science=True) == ()  # an older flat was used
    assert made.awaited() == ("dark",)
    assert report(flat, WAITS).awaited(by_science=True) == ("dark",)


def test_each_of_several_nights_has_its_folder(settings: Settings) -> None:
    options = options_of(settings)
    assert place_of(settings, [NIGHT], options) == (settings.nights / "2013-11-21", options)
    out, of_two = place_of(settings, [NIGHT, NIGHT + timedelta(days=1)], options)
    assert (out, of_two.by_night, options.by_night) == (settings.nights, True, False)
    one = Workspace(data_dir=settings.data_dir, out=out, by_night=True)
    assert one.folder_of(NIGHT) == settings.nights / "2013-11-21"
    assert one.model_copy(update={"by_night": False}).folder_of(NIGHT) == settings.nights


def test_frames_that_arrive_while_another_run_holds_the_night_are_reduced_too(
    settings: Settings, store: Store, record: Callable[..., FrameRecord], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def ingest(name: str) -> None:
        raw = record(name)
        raw.path.touch()
        store.frames.ingest([raw])

    reduced: list[str] = []

    def reduce(paths: Iterable[Path], *_: object, **__: object) -> NightReport:
        reduced.extend(path.name for path in paths)
        return report()

    monkeypatch.setattr(running, "reduce_with", reduce)
    ingest("S1.fits")

    def choose() -> tuple[Frame, ...]:
        return frames_of_nights(store, NIGHT, NIGHT, 0)

    with ThreadPoolExecutor() as pool, caplog.at_level("INFO", logger="deployments"):
        with alone_with(store.database, [NIGHT], None):
            run = pool.submit(reduce_frames, settings, choose, [NIGHT], options_of(settings))
            wait_until(lambda: "Another run is processing 2013-11-21" in caplog.text)
            ingest("S2.fits")
        assert run.result(timeout=PATIENCE).failed == ()
    assert reduced == ["S1.fits", "S2.fits"]


def test_affected_products_are_made_again_with_a_lock_on_their_nights(
    settings: Settings, store: Store, record: Callable[..., FrameRecord], add: Callable[..., Product],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("NIRFLOW_DATA_DIR", str(settings.data_dir))
    raw = record("S1.fits")
    store.frames.ingest([raw])
    dark = add()
    add("image", inputs=[InputRef("science", raw.sha256), InputRef("dark", dark.id)])
    reject(store, dark, author="Ana", reason="a test")
    made: list[date] = []
    monkeypatch.setattr(reprocess, "reduce_with", lambda *_: made.append(NIGHT) or report())
    with ThreadPoolExecutor() as pool, caplog.at_level("INFO", logger="deployments"):
        with alone_with(store.database, [NIGHT], None):
            run = pool.submit(reprocess.reprocess.fn, ReprocessRequest(affected_by=str(dark.id)))
            wait_until(lambda: "Another run is processing" in caplog.text)
            assert made == []
        run.result(timeout=PATIENCE)
    assert made == [NIGHT]


def test_a_night_without_usable_frames_fails_after_writing_its_page(
    settings: Settings, store: Store, record: Callable[..., FrameRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "reduce_with", lambda *_, **__: report())
    pieces = [record(f"S20131121S000{n}.fits", facts=None, quarantine="truncated") for n in range(5)]
    store.frames.ingest(pieces)

    def choose() -> tuple[Frame, ...]:
        return frames_of_nights(store, NIGHT, NIGHT, 0)

    with pytest.raises(UnusableFramesError, match="None of the 5 frames of 2013-11-21") as caught:
        reduce_frames(settings, choose, [NIGHT], options_of(settings))
    assert "S20131121S0000.fits: truncated" in str(caught.value)
    assert "S20131121S0004" in (settings.nights / "2013-11-21" / "index.html").read_text()
    store.frames.ingest([record("S1.fits")])
    assert reduce_frames(settings, choose, [NIGHT], options_of(settings)).failed == ()


def test_a_night_unusable_in_an_earlier_run_is_judged_by_the_current_run(
    settings: Settings, store: Store, record: Callable[..., FrameRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run examines its frames again, with its own parameters of the check."""
    store.frames.ingest([record("S20131121S0001.fits", quarantine="it has 512 x 512 pixels")])

    def reduce(*_: object, **__: object) -> NightReport:
        store.frames.ingest([record("S20131121S0001.fits")])
        return report()

    monkeypatch.setattr(running, "reduce_with", reduce)

    def choose() -> tuple[Frame, ...]:
        return frames_of_nights(store, NIGHT, NIGHT, 0)

    assert reduce_frames(settings, choose, [NIGHT], options_of(settings)).failed == ()


def test_an_unknown_night_has_no_page_but_the_others_have(
    settings: Settings, store: Store, record: Callable[..., FrameRecord]
) -> None:
    store.frames.ingest([record("S1.fits")])
    days = [NIGHT + timedelta(days=n) for n in (-1, 0, 1)]
    write_pages(settings, days)
    assert sorted(path.name for path in settings.nights.iterdir() if path.is_dir()) == ["2013-11-21"]
    assert "2013-11-21" in (settings.nights / "index.html").read_text()

"""Slots for computing, and the stores of a process."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from raw_files import raw_bytes
from waiting import PATIENCE

from imaging.errors import FrameError, StoreError
from imaging.io.raw_file import unpack
from tasks.support.references import RawFrame
from tasks.support.step import StepEvent, listening, step
from tasks.support.workspace import Workspace, close_stores


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(data_dir=tmp_path / "data", out=tmp_path / "out", threads=2)


def test_no_more_steps_at_a_time_than_threads(workspace: Workspace) -> None:
    lock, now, most = threading.Lock(), 0, 0
    together = threading.Barrier(2, timeout=PATIENCE)

    def work(n: int) -> None:
        nonlocal now, most
        with step("work", str(n), workspace):
            with lock:
                now += 1
                most = max(most, now)
            together.wait()
            with lock:
                now -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(12)))
    assert most == 2


def test_events_of_a_step(workspace: Workspace) -> None:
    events: list[StepEvent] = []
    with listening(events.append):
        with step("dark", "a", workspace):
            pass
        with step("dark", "b", workspace) as current:
            current.reused = True
        with pytest.raises(ZeroDivisionError), step("dark", "c", workspace):
            raise ZeroDivisionError
    with step("dark", "d", workspace):
        pass
    assert [(e.label, e.state) for e in events] == [
        ("a", "started"), ("a", "built"), ("b", "started"), ("b", "reused"), ("c", "started"), ("c", "failed"),
    ]  # fmt: skip
    with step("dark", "e", workspace):  # the failed step released its slot
        pass


def test_a_process_opens_a_store_once_and_closes_it(
    workspace: Workspace, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", database_url)
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: workspace.store(), range(8)))
    assert len(set(map(id, stores))) == 1
    engine = stores[0].database.engine
    assert engine.pool.checkedin() >= 1  # type: ignore[attr-defined]
    close_stores()
    assert engine.pool.checkedin() == 0  # type: ignore[attr-defined]
    assert workspace.store() is not stores[0]
    close_stores()


def test_a_store_that_could_not_be_opened_is_tried_again(
    workspace: Workspace, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nirflow")
    with pytest.raises(StoreError, match="does not answer"):
        workspace.store()
    monkeypatch.setenv("NIRFLOW_DATABASE_URL", database_url)
    assert workspace.store().products() == ()
    close_stores()


def test_a_file_that_changed_since_it_was_surveyed_is_refused(
    workspace: Workspace, raw_frame: Callable[..., RawFrame], tmp_path: Path
) -> None:
    source = tmp_path / "S1.fits.gz"
    surveyed, written_again = raw_bytes(1), raw_bytes(2)
    source.write_bytes(gzip.compress(surveyed))
    path, sha256 = unpack(source, workspace.unpacked)
    frame = raw_frame("S1.fits").model_copy(update={"path": path, "source": source, "sha256": sha256})
    assert workspace.readable(frame) == path
    path.unlink()
    assert workspace.readable(frame).read_bytes() == surveyed
    path.unlink()
    source.write_bytes(gzip.compress(written_again))
    with pytest.raises(FrameError, match=r"S1\.fits: .*S1\.fits\.gz has changed on disk since the survey"):
        workspace.readable(frame)

"""The watcher at its start, with many files, and with all methods of noticing them."""

from __future__ import annotations

import bz2
import errno
import gzip
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from raw_files import DARK, SCIENCE, raw_bytes
from sqlalchemy import select
from waiting import PATIENCE, wait_until
from watched_folder import Clock, Watch, in_store, put, rounds, sha256s

from calib_store.model.records import FrameRecord
from calib_store.store import Store
from calib_store.tables.schema import frame_headers
from deployments.arrivals import watcher as module
from deployments.arrivals.watcher import Watcher
from deployments.status import arriving
from imaging.io.examine import last_change
from imaging.machine import unwritable


@contextmanager
def running(watcher: Watcher) -> Iterator[None]:
    stop = threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            watcher.run(stop)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert errors == []


# --- start and scale ------------------------------------------------------------------------------


def test_known_files_are_not_opened_again(
    watch: Watch, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch,
    record: Callable[..., FrameRecord],
) -> None:  # fmt: skip
    n = 500
    for number in range(n):
        path = raw / f"S{number}.fits"
        path.write_bytes(b"known")
    records = []
    for path in raw.iterdir():
        about = path.stat()
        records.append(record(path.name, path=path, size=about.st_size, changed_ns=last_change(about)))
    store.frames.ingest(records)
    opened: list[Path] = []
    monkeypatch.setattr(module, "why_incomplete", lambda path, _: opened.append(path))
    put(raw / "new.fits", raw_bytes(1))
    watcher = watch()
    rounds(watcher, clock)
    assert [path.name for path in opened] == ["new.fits"]
    assert "new.fits" in in_store(store)


def test_the_process_does_not_import_prefect() -> None:
    script = """
        import sys, deployments.arrivals.main
        print([name for name in ("prefect", "fastapi", "numba", "scipy") if name in sys.modules])
    """
    import textwrap

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_it_polls_if_the_settings_require_it(
    watch: Watch, store: Store, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_kernel(*_: object, **__: object) -> None:
        raise AssertionError("the kernel was used")

    monkeypatch.setattr("deployments.arrivals.folders.watch", no_kernel)
    with running(watch(polling=True, poll=0.05, settle=0.1, rescan=1000.0, real_time=True)):
        put(raw / "S1.fits", raw_bytes(1))
        (raw / "sub").mkdir()
        put(raw / "sub" / "S2.fits", raw_bytes(2))
        assert wait_until(lambda: len(in_store(store)) == 2)


def test_a_full_disk_for_its_own_record_does_not_end_it(
    watch: Watch, store: Store, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(path: Path, *_: object, **__: object) -> None:
        raise unwritable(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    monkeypatch.setattr(arriving, "write_complete", no_room)
    with running(watch(polling=True, poll=0.05, settle=0.1, rescan=1000.0, real_time=True)):
        put(raw / "S1.fits", raw_bytes(1))
        assert wait_until(lambda: len(in_store(store)) == 1)


def test_the_kernel_reports_new_files_and_folders(watch: Watch, store: Store, raw: Path) -> None:
    put(raw / "S0.fits", raw_bytes(0))
    with running(watch(poll=1000.0, settle=0.1, rescan=1000.0, real_time=True)):
        assert wait_until(lambda: len(in_store(store)) == 1)
        time.sleep(1.2)  # the watch has begun, and with it came the last scan
        put(raw / "S1.fits", raw_bytes(1))
        aside = raw.parent / "night"
        (aside / "deep").mkdir(parents=True)
        put(aside / "deep" / "S2.fits", raw_bytes(2))
        aside.rename(raw / "night")
        assert wait_until(lambda: len(in_store(store)) == 3)
        put(raw / "night" / "deep" / "S3.fits", raw_bytes(3))
        (raw / "S4.fits").write_bytes(raw_bytes(4)[:3000])
        assert wait_until(lambda: len(in_store(store)) == 4)
        (raw / "S4.fits").write_bytes(raw_bytes(4))
        assert wait_until(lambda: len(in_store(store)) == 5)


def test_the_next_scan_finds_files_whose_notice_was_lost(
    watch: Watch, store: Store, clock: Clock, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = watch(rescan=60.0)
    monkeypatch.setattr(watcher._notices, "seeing", True)
    watcher.step()
    put(raw / "S1.fits", raw_bytes(1))
    for _ in range(59):
        clock.time += 1.0
        watcher.step()
    assert in_store(store) == {}
    clock.time += 1.0
    watcher.step()
    clock.time += 1.0
    watcher.step()
    assert len(in_store(store)) == 1


def test_hostile_names(watch: Watch, store: Store, raw: Path) -> None:
    names = [
        "new\nline.fits", "bad\udcff\udcfe.fits", "x" * 250 + ".fits", " .fits", "a'b\"c\\.fits", "%s{}.fits",
        "é\u202e.fits", "-rf.fits", "tab\t.fits.gz",
    ]  # fmt: skip
    watcher = watch(poll=0.2, settle=0.1, rescan=1000.0, real_time=True)
    with running(watcher):
        (raw / "loop").symlink_to(raw)
        (raw / "self.fits").symlink_to("self.fits")
        deep = raw
        for _ in range(12):
            deep /= "y" * 250
        deep.mkdir(parents=True)
        for number, name in enumerate(names):
            content = raw_bytes(number)
            (raw / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        (deep / "deep.fits").write_bytes(raw_bytes(99))
        assert wait_until(lambda: len(in_store(store)) == len(names) + 1)
    assert set(in_store(store).values()) == {1}
    assert len(in_store(store)) == len(names) + 1


def test_a_thousand_files_at_once_with_all_kinds_of_problems(
    watch: Watch, store: Store, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good files, renamed, growing and compressed; copies, a file written again, garbage; two restarts."""
    n = 1000
    dice = random.Random(7)
    settings: dict[str, Any] = {"poll": 0.5, "settle": 0.2, "rescan": 5.0, "real_time": True}
    numbers = list(range(n))
    dice.shuffle(numbers)
    wanted: set[str] = set()
    pieces: list[tuple[Path, bytes]] = []

    def drop(numbers: Sequence[int]) -> None:
        for number in numbers:
            content = raw_bytes(number, SCIENCE if number % 3 else DARK)
            path = raw / f"night{number % 4}" / f"S{number:04d}.fits"
            path.parent.mkdir(exist_ok=True)
            match number % 10:
                case 0 | 1 | 2:
                    put(path, content)
                case 3:
                    path.write_bytes(content[: dice.randrange(len(content))])
                    pieces.append((path, content))
                case 4:
                    (path.with_suffix(".fits.gz")).write_bytes(gzip.compress(content))
                case 5:
                    packed = bz2.compress(content)
                    path = path.with_suffix(".fits.bz2")
                    path.write_bytes(packed[: dice.randrange(len(packed))])
                    pieces.append((path, packed))
                case 6:
                    path.write_bytes(content)
                    put(path.with_name(f"copy{number}.fits"), content)
                case 7:
                    path.write_bytes(dice.randbytes(3000))
                    path.with_name(f"{path.name}.tmp").write_bytes(content)
                    continue
                case _:
                    path.write_bytes(content)
            wanted.add(f"label-{number:06d}")

    with running(watch(**settings)):
        drop(numbers[:400])
        wait_until(lambda: len(in_store(store)) > 50)
    with running(watch(**settings)):
        drop(numbers[400:800])
        wait_until(lambda: len(in_store(store)) > 300)
    taken = in_store(store)
    rewritten = [path for path in sorted(raw.rglob("S*8.fits")) if path.name in taken][:20]
    assert rewritten
    with running(watch(**settings)):
        drop(numbers[800:])
        for path, content in pieces:
            path.write_bytes(content)
        for serial, path in enumerate(rewritten):
            put(path, raw_bytes(5000 + serial))
            wanted.add(f"label-{5000 + serial:06d}")
        wait_until(lambda: len(in_store(store)) > 600)

        wait_until(lambda: len(sha256s(store)) >= len(wanted), "all frames")
    with store.database.engine.connect() as connection:
        labels = Counter(header["DATALAB"] for header in connection.scalars(select(frame_headers.c.header)))
    assert set(labels) == wanted
    assert set(labels.values()) == {1}
    assert not [reason for reason in sha256s(store).values() if reason]

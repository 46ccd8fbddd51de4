"""The judge: complete files become verdicts, once each; limits are reported once per crossing; no file stops it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arriving_frames import electrons, write_dark, write_frame
from raw_files import SCIENCE
from watched_folder import Clock

from deployments.arrivals.landing import signature
from deployments.judging import judge as judge_module
from deployments.judging.announcer import CROSSED, JUDGED, Announcer, EventQueue
from deployments.judging.complete_files import CompleteFiles
from deployments.judging.crossings import Limits
from deployments.judging.frame_in_hand import FrameInHand
from deployments.judging.judge import Judge, Refused
from deployments.judging.judge_arrivals import judge_arrivals
from deployments.judging.store_calibrations import StoreCalibrations
from deployments.prefect_api.events import Event, EventsError
from deployments.settings.judge_settings import JudgeSettings
from deployments.settings.watch_settings import WatchSettings
from imaging.errors import StoreError
from imaging.frames.find_files import CheckParameters
from imaging.quick_look.frame_figures import FrameFigures, FrameValues
from imaging.quick_look.night_record import read_record

CHECK = CheckParameters(shape=None)


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frame(tmp_path_factory.mktemp("frame") / "S20131121S0001.fits", electrons())


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Judge]:
    def made(**options: Any) -> Judge:
        return Judge(
            StoreCalibrations(None),
            tmp_path / "unpacked",
            CHECK,
            nights=tmp_path / "nights",
            threads=1,
            **options,
        )

    return made


def take(judge: Judge, path: Path) -> FrameFigures | Refused | None:
    seen = signature(str(path))
    assert seen is not None
    return judge.take(path, seen)


def test_a_frame_is_judged_once_also_after_a_restart(
    make: Callable[..., Judge], frame: Path, tmp_path: Path
) -> None:
    one = take(make(), frame)
    assert isinstance(one, FrameFigures)
    assert one.uncalibrated == "there is no calibration store"
    assert one.values.seeing is not None
    assert one.seconds is not None
    assert [kept.name for kept in read_record(tmp_path / "nights" / str(one.night), one.night).frames] == [
        "S20131121S0001.fits"
    ]
    copy = tmp_path / "S20131121S0001_copy.fits"
    shutil.copy(frame, copy)
    again = make()
    assert take(again, frame) is None
    assert take(again, copy) is None


def test_bad_files_are_reported_and_stop_nothing(
    make: Callable[..., Judge], frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = make()
    short = tmp_path / "S20131121S0002.fits"
    short.write_bytes(frame.read_bytes()[:20000])
    refused = take(judge, short)
    assert isinstance(refused, Refused)
    assert "truncated" in refused.reason
    foreign = write_frame(tmp_path / "S20131121S0003.fits", electrons(), SCIENCE | {"INSTRUME": "GMOS-S"})
    assert take(judge, foreign) is None
    assert isinstance(take(judge, write_dark(tmp_path / "S20131121S0004.fits")), FrameFigures)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(judge_module, "measure_frame", broken)
        assert take(judge, frame) == Refused(frame.name, "RuntimeError: a defect")
    assert isinstance(take(judge, frame), FrameFigures)


def test_a_frame_that_ended_the_process_twice_is_not_measured_again(
    make: Callable[..., Judge], frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "in-hand.json"

    def killed(*_: Any, **__: Any) -> None:
        (tmp_path / "left.json").write_bytes(note.read_bytes())
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(judge_module, "measure_frame", killed)
        for _ in range(2):
            take(make(in_hand=FrameInHand(note)), frame)
            shutil.copy(tmp_path / "left.json", note)  # as after a kill
    one = take(make(in_hand=FrameInHand(note)), frame)
    assert isinstance(one, FrameFigures)
    assert one.problem == "measuring it ended the judge twice"


def test_without_an_answer_of_the_store_frames_are_uncalibrated(frame: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def fails() -> Any:
        asked.append(1)
        raise StoreError("The database does not answer.")

    clock = Clock()
    calibrations = StoreCalibrations(fails, clock)
    judge = Judge(calibrations, tmp_path, CHECK, threads=1)
    one = take(judge, frame)
    assert isinstance(one, FrameFigures)
    assert one.uncalibrated == "The database does not answer."
    take(judge, write_frame(tmp_path / "S20131121S0004.fits", electrons(seed=2)))
    assert len(asked) == 1, "it is not asked for every frame"
    clock.time += 60
    take(judge, write_frame(tmp_path / "S20131121S0005.fits", electrons(seed=3)))
    assert len(asked) == 2


def test_files_are_taken_when_they_are_complete(tmp_path: Path, frame: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(frame, raw / "S20131121S0001.fits")
    clock = Clock()
    settings = WatchSettings(folders=(raw,), polling=True)
    since = (raw / "S20131121S0001.fits").stat().st_ctime + 1

    def later(files: CompleteFiles, seconds: float = 10.0) -> list[tuple[str, str]]:
        found = []
        for _ in range(2):
            clock.time += seconds
            found += [(one.path.name, one.incomplete) for one in files.take()]
        return found

    files = CompleteFiles(settings, tmp_path, since, clock)
    assert later(files) == []  # it was there before
    content = frame.read_bytes()
    (raw / "S20131121S0002.fits").write_bytes(content[:-2880])
    assert later(files) == []
    (raw / "S20131121S0002.fits").write_bytes(content)
    assert later(files) == [("S20131121S0002.fits", "")]
    assert later(files) == []
    (raw / "S20131121S0003.fits").write_bytes(content[:20000])
    later(files)
    [(name, reason)] = later(files, 1000.0)
    assert name == "S20131121S0003.fits"
    assert reason.startswith("it stays incomplete: truncated")
    everything = CompleteFiles(settings, tmp_path, None, clock)
    assert {name for name, _ in later(everything)} == {"S20131121S0001.fits", "S20131121S0002.fits"}


def test_the_loop_reports_each_verdict_until_it_is_stopped(
    make: Callable[..., Judge], frame: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(frame, raw / "S20131121S0001.fits")
    stop, found = threading.Event(), list[FrameFigures | Refused]()

    def report(one: FrameFigures | Refused) -> None:
        found.append(one)
        stop.set()

    files = CompleteFiles(WatchSettings(folders=(raw,), settle=0.0), tmp_path, None)
    judge_arrivals(files, make(), report, stop)
    assert [one.name for one in found] == ["S20131121S0001.fits"]


def seen(name: str, kind: str = "object", group: str = "g", **values: Any) -> FrameFigures:
    return FrameFigures(
        name=name, sha256=name.ljust(64, "0"), kind=kind, group=group, night="2013-11-21",
        started="2013-11-21T02:00:00Z", values=FrameValues(**values),
    )  # fmt: skip


def test_a_crossing_is_reported_once_and_again_only_after_a_recovery() -> None:
    limits = Limits(JudgeSettings(seeing=1.0, transparency=0.5, frames=2))

    def after(*seeings: float | None) -> list[str]:
        return [
            one.text
            for k, value in enumerate(seeings)
            for one in limits.take(seen(f"S{k}.fits", seeing_at_zenith=value))
        ]

    assert after(0.8, 1.2, 0.9, 1.1) == []
    assert limits.take(seen("dark.fits", "dark", seeing_at_zenith=None)) == ()
    assert after(1.3) == ["The seeing at the zenith is above 1 arcsec in S3 to S0: 1.10, 1.30 arcsec."]
    assert after(1.4, 1.4, 0.9, 1.4, 1.4, None, 1.4) == []
    assert after(0.9, 0.9, 1.4, 1.5) == [
        "The seeing at the zenith is above 1 arcsec in S2 to S3: 1.40, 1.50 arcsec."
    ]
    again = Limits(JudgeSettings(seeing=1.0, frames=1))
    again.replay([seen("S1.fits", seeing_at_zenith=1.5)])
    assert again.take(seen("S2.fits", seeing_at_zenith=1.6)) == ()
    assert [one.name for one in limits.take(seen("a", transparency=0.4))] == []
    assert [one.name for one in limits.take(seen("b", transparency=0.4))] == ["transparency"]


def test_events_are_crossings_and_one_summary_of_a_sequence() -> None:
    sent: list[Event] = []
    clock = Clock()
    announcer = Announcer(Limits(JudgeSettings(seeing=1.0, frames=1)), 60.0, sent.append, clock)
    for k, value in enumerate((0.9, 1.1, 1.2)):
        announcer.take(seen(f"S{k}.fits", seeing_at_zenith=value))
    announcer.summarise()
    assert [(one.name, one.resource) for one in sent] == [(CROSSED, "nirflow.limit.seeing")]
    clock.time += 61
    announcer.summarise()
    announcer.summarise()
    assert [one.name for one in sent] == [CROSSED, JUDGED]
    assert sent[1].resource == "nirflow.judged.g"
    assert sent[1].payload["medians"] == {"seeing_at_zenith": 1.1}
    assert sent[1].payload["frames"] == 3


def test_events_wait_for_a_server_that_does_not_answer(tmp_path: Path) -> None:
    tries: list[str] = []
    done = threading.Event()

    def send(events: Any) -> None:
        tries.append(events[0].name)
        if len(tries) == 1:
            raise EventsError("The server does not answer.")
        if len(tries) == 3:
            done.set()

    def down(_: Any) -> None:
        raise EventsError("The server does not answer.")

    stopped = EventQueue(down, tmp_path / "events.json")
    stopped.put(Event(name="a", resource="r"))
    stopped.start()
    stopped.stop()
    queue = EventQueue(send, tmp_path / "events.json")
    queue.put(Event(name="b", resource="r"))
    queue.start()
    done.wait()
    queue.stop()
    assert tries == ["a", "a", "b"]
    assert not (tmp_path / "events.json").exists()

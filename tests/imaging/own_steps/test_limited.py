"""A step with a time limit runs in a process of its own, which ends with it and leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import wait_until

from imaging.errors import FrameError
from imaging.own_steps.applying import Applied, apply_steps
from imaging.own_steps.limited import called_within_limit
from imaging.own_steps.loading import load
from imaging.own_steps.uses import StepUse
from imaging.pixels.image import Image

SOURCE = """
import os
import subprocess
import time

def add(ccd, electrons=1.0, mask=None):
    print("not an answer")
    ccd.data = ccd.data + electrons
    ccd.mask = ccd.mask | mask
    return ccd

def never(ccd, note=""):
    child = subprocess.Popen(["sleep", "1000"])
    apart = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    orphan = subprocess.check_output(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"], text=True)
    with open(note, "w") as file:
        file.write(f"{os.getpid()} {child.pid} {apart.pid} {orphan}")
    while True:
        time.sleep(0.01)

def crash(ccd):
    os.write(2, b"segmentation something")
    os._exit(9)

def fail(ccd):
    raise OSError("no such camera")

def stop(ccd):
    raise KeyboardInterrupt("enough")

def unpicklable(ccd):
    return lambda: ccd

def large(ccd):
    return bytes(25_000_000)

def forking(ccd):
    if not os.fork():
        ccd.data = ccd.data * 0
    return ccd
"""


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Callable[..., Image]
) -> Callable[..., Applied]:
    (tmp_path / "limited_steps.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "frames").mkdir()

    def apply(text: str, limit: float, **values: Any) -> Applied:
        step = load(StepUse.model_validate(f"limited_steps:{text}"), limit)
        call = partial(called_within_limit, folder=tmp_path / "frames")
        try:
            return apply_steps("S1.fits", image(), [(step, dict(step.arguments) | values)], call)
        finally:
            assert list((tmp_path / "frames").iterdir()) == []

    return apply


def test_a_step_in_a_process_gives_the_same(run: Callable[..., Applied], image: Callable[..., Image]) -> None:
    mask = np.zeros(image().shape, bool)
    mask[7, 7] = True
    done = run("add(electrons=3, mask=@bpm)", 60.0, mask=mask)
    np.testing.assert_array_equal(done.sci, image().sci + 3)
    assert done.dq[7, 7] == 1
    assert done.masked == (1,)


def test_a_copy_of_the_process_gives_no_answer(
    run: Callable[..., Applied], image: Callable[..., Image]
) -> None:
    np.testing.assert_array_equal(run("forking", 60.0).sci, image().sci)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] not in "ZX"


def test_a_step_that_never_ends_is_ended_with_what_it_started(
    run: Callable[..., Applied], tmp_path: Path
) -> None:
    note = tmp_path / "pids"
    begin = time.monotonic()
    with pytest.raises(FrameError, match=r"the step never did not end within 3 s, and was ended"):
        run(f"never(note={str(note)!r})", 3)
    assert time.monotonic() - begin < 60
    pids = [int(one) for one in note.read_text().split()]
    assert len(pids) == 4
    wait_until(lambda: not any(map(runs, pids)), "the processes to end")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("crash", "ended its process without a result: segmentation something"),
        ("fail", "failed with OSError: no such camera"),
        ("stop", "failed with KeyboardInterrupt: enough"),
        ("unpicklable", "cannot be passed between processes"),
        ("large", r"returned 2\d+ bytes, more than the \d+ that a frame may have"),
    ],
)
def test_a_step_that_fails_in_its_process_is_reported(
    run: Callable[..., Applied], text: str, reason: str
) -> None:
    with pytest.raises(FrameError, match=rf"S1.fits: the step {text} .*{reason}"):
        run(text, 60.0)

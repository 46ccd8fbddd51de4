"""The loop of the judge: complete files are judged as they come, and each verdict is passed on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from deployments.judging.complete_files import Arrived, CompleteFiles
from deployments.judging.judge import Judge, Refused
from imaging.quick_look.frame_figures import FrameFigures

log = logging.getLogger(__name__)


def judge_arrivals(
    files: CompleteFiles,
    judge: Judge,
    report: Callable[[FrameFigures | Refused], None],
    stop: threading.Event,
    between: Callable[[], None] = lambda: None,
) -> None:
    """Judge the files that become complete until ``stop`` is set.

    Parameters
    ----------
    files
        The files.
    judge
        The judge.
    report
        Called with each verdict, and with each file that could not be judged.
    stop
        Ends the loop after the frame in hand.
    between
        Called each time when nothing is left to judge.
    """
    files.start()
    try:
        waiting: list[list[Arrived]] = []
        while not stop.is_set():
            if arrived := files.take():
                waiting.append(sorted(arrived, key=lambda one: one.path.name, reverse=True))
            if not waiting:
                between()
                files.wait(stop)
                continue
            # The files of a batch in order, but what has just arrived before what waited longer.
            path, seen, reason = waiting[-1].pop()
            waiting = [batch for batch in waiting if batch]
            verdict = Refused(path.name, reason) if reason else judge.take(path, seen)
            if verdict is not None:
                report(verdict)
    finally:
        files.stop()

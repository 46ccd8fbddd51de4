"""The judge's process: ``python -m deployments.judging.judge_process``, started by the supervisor."""

from __future__ import annotations

import logging
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from calib_store.private import private_folder
from calib_store.store import Store
from deployments.arrivals.folders import shown
from deployments.arrivals.main import running_server
from deployments.judging.announcer import Announcer, EventQueue
from deployments.judging.complete_files import CompleteFiles
from deployments.judging.crossings import Limits
from deployments.judging.frame_in_hand import FrameInHand
from deployments.judging.judge import Judge, Refused
from deployments.judging.judge_arrivals import judge_arrivals
from deployments.judging.store_calibrations import StoreCalibrations
from deployments.prefect_api.events import EventSender
from deployments.printable_output import ArgumentParser, make_output_printable
from deployments.processes import set_by_signals
from deployments.settings.all_settings import Settings
from imaging.errors import NirflowError
from imaging.io.atomic import take_lock
from imaging.quick_look.frame_figures import FrameFigures
from imaging.quick_look.measure_frame import warm_up

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Judge the frames that arrive in the watched folders until SIGTERM, or check that a process does."""
    make_output_printable()
    parser = ArgumentParser(prog="python -m deployments.judging.judge_process", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="exit with 0 if a judge of this data folder is running"
    )
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = Settings()
    if asked.check:
        return 0 if _is_running(settings) else 1
    stop = set_by_signals()
    try:
        folder = _folder(settings)
        private_folder(folder)
        held = take_lock(folder / "lock")
        if held is None:
            raise NirflowError(
                f"Another judge is running for this data folder (it holds the lock {folder / 'lock'}).",
                remedy="Use one, and list all folders in its settings.",
            )
        with held:
            _judge(settings, folder, stop)
    except NirflowError as error:
        logger.error("%s", error)
        return 1
    return 0


def _folder(settings: Settings) -> Path:
    return settings.data_dir.expanduser().resolve() / "judge"


def _is_running(settings: Settings) -> bool:
    """Return whether a judge holds the lock of the data folder."""
    lock = _folder(settings) / "lock"
    held = take_lock(lock) if lock.is_file() else None
    if held is not None:
        held.close()
    return lock.is_file() and held is None


def _judge(settings: Settings, folder: Path, stop: threading.Event) -> None:
    server = running_server(settings)
    sender = EventSender(server.api_url, SecretStr(server.auth) if server.auth else None)
    queue = EventQueue(sender.emit, folder / "events.json")
    calibrations = StoreCalibrations(partial(Store.open, settings))
    unpacked = settings.data_dir.expanduser().resolve() / "unpacked"
    judge = Judge(
        calibrations,
        unpacked,
        settings.watch.check,
        nights=settings.nights,
        in_hand=FrameInHand(folder / "in-hand.json"),
        threads=settings.worker.threads,
    )
    files = CompleteFiles(settings.watch, unpacked, time.time() - 3600 * settings.judge.look_back)
    limits = Limits(settings.judge)
    # What was notified before a restart is not notified again.
    now = datetime.now(UTC)
    for night in sorted({(now - timedelta(days=k)).date() for k in (-1, 0, 1)}):
        limits.replay(judge.record_of(night).frames)
    announcer = Announcer(limits, settings.watch.quiet, queue.put)

    def report(one: FrameFigures | Refused) -> None:
        if isinstance(one, Refused):
            logger.warning("%s is not judged: %s", shown(one.name), shown(one.reason))
            return
        said = "; ".join((one.verdict, *one.remarks, one.problem)).removesuffix("; ")
        logger.info("%s: %s, %.1f s after its last byte", shown(one.name), shown(said), one.seconds or 0.0)
        announcer.take(one)

    queue.start()
    try:
        calibrations.connect()
        warm_up()
        judge_arrivals(files, judge, report, stop, announcer.summarise)
    finally:
        queue.stop()
        calibrations.close()


if __name__ == "__main__":
    sys.exit(main())

"""A step of the user's own called in a process of its own, which is ended when its time is over."""

from __future__ import annotations

import logging
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from imaging.own_steps.applying import UnfitResultError, called_here
from imaging.own_steps.child import GIVEN, READY, RETURNED
from imaging.own_steps.loading import LoadedStep

if TYPE_CHECKING:
    from astropy.nddata import CCDData

logger = logging.getLogger(__name__)

#: Time for the imports of the process, which do not count for the step, s.
_START: Final = 120.0
#: Bytes at the end of the output of a process that are shown if it fails.
_TAIL: Final = 300


def called_within_limit(step: LoadedStep, ccd: CCDData, values: Mapping[str, Any], folder: Path) -> Any:
    """Call a step: in this process if it has no time limit, otherwise in one of its own.

    Parameters
    ----------
    step, ccd, values
        The step, its frame and the values of its arguments.
    folder
        Where the frame is passed on, in a folder that is removed afterwards.

    Raises
    ------
    UnfitResultError
        If the time is over, or the process ends without a result.
    """
    if step.time_limit is None:
        return called_here(step, ccd, values)
    with TemporaryDirectory(dir=folder, prefix="step-") as name:
        inside = Path(name)
        with (inside / GIVEN).open("wb") as file:
            pickle.dump((step.use, dict(values), ccd), file, protocol=pickle.HIGHEST_PROTOCOL)
        with (inside / "output").open("wb") as output:
            _run(step, inside, output.fileno())
        returned, same_wcs = _result(inside)
    if same_wcs:
        returned.wcs = ccd.wcs
    return returned


def _run(step: LoadedStep, folder: Path, output: int) -> None:
    path = os.pathsep.join(dict.fromkeys(one for one in sys.path if one))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "imaging.own_steps.child", str(folder), str(os.getpid())],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output, start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        limit, what = _START, "could not be imported in a process of its own"
        begun, _, _ = select.select([process.stdout], [], [], limit)
        if begun and os.read(process.stdout.fileno(), len(READY)) == READY:
            assert step.time_limit is not None
            limit, what = step.time_limit, "did not end"
            begin = time.monotonic()
            process.wait(limit)
            logger.debug("The step %s took %.2f s in its process", step.name, time.monotonic() - begin)
        elif not begun:
            raise subprocess.TimeoutExpired(step.name, limit)
        else:
            process.wait(_START)
    except subprocess.TimeoutExpired:
        raise UnfitResultError(f"{what} within {limit:g} s, and was ended") from None
    finally:
        for pid in _descendants(process.pid):  # also those in a session of their own
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _descendants(process: int) -> list[int]:
    """Return the processes that a running process started, and those that they started."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            parent = int((path / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.name))
    found = children.get(process, [])
    for one in found:
        found += children.get(one, [])
    return found


def _result(folder: Path) -> tuple[Any, bool]:
    """Return what the step returned, and whether its world coordinates were those that it was given."""
    try:
        content = (folder / RETURNED).read_bytes()
    except FileNotFoundError:
        text = (folder / "output").read_bytes()[-_TAIL:].decode(errors="replace").strip()
        last = text.splitlines()[-1] if text else "without a message"
        raise UnfitResultError(f"ended its process without a result: {last}") from None
    returned, same_wcs, failure, details = pickle.loads(content)
    if failure:
        logger.error("A step failed in its process:\n%s", details)
        raise UnfitResultError(f"failed with {failure.rstrip('.: ')}")
    return returned, same_wcs

"""A separate program that calls one step of the user's own, so that it can be ended after a time limit.

`imaging.own_steps.limited` runs it with a folder as its argument, which has the step, its frame and its arguments, and
gets what the step returned or raised.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Final

#: Files in the folder, and what the program prints once the step can be called.
GIVEN: Final = "given"
RETURNED: Final = "returned"
READY: Final = b"ready\n"
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
#: Largest result: so many times what was given, and that much more for a header. Double precision is twice as large.
_MOST_TIMES: Final = 8
_SMALL: Final = 1 << 24


def main(folder: Path, parent: int) -> None:
    """Call the step in ``folder``."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a step does not outlive its run
    prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what it starts stays among its descendants, by which it is found
    if os.getppid() != parent:
        return
    ready = os.dup(1)
    os.dup2(2, 1)  # output of the step is no answer
    from imaging.own_steps.applying import only_this_process
    from imaging.own_steps.loading import load

    with (folder / GIVEN).open("rb") as file:
        use, values, ccd = pickle.load(file)
        sent = file.tell()
    function = load(use).function
    os.write(ready, READY)
    wcs = None if ccd.wcs is None else ccd.wcs.deepcopy()
    outcome: tuple[Any, bool, str, str] = (None, False, "", "")
    try:
        with only_this_process():
            returned = function(ccd, **values)
        outcome = (returned, _stripped(returned, wcs), "", "")
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent reports it
        outcome = (None, False, f"{type(error).__name__}: {error}", traceback.format_exc())
    aside = folder / f"{RETURNED}.part"
    try:
        content = pickle.dumps(outcome, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - pickling calls code of the object
        text = f"what it returned cannot be passed between processes: {type(error).__name__}: {error}"
        content = pickle.dumps((None, False, text, traceback.format_exc()))
    if len(content) > (most := _MOST_TIMES * sent + _SMALL):
        text = f"it returned {len(content)} bytes, more than the {most} that a frame may have"
        content = pickle.dumps((None, False, text, ""))
    aside.write_bytes(content)
    aside.rename(folder / RETURNED)


def _stripped(returned: Any, wcs: Any) -> bool:
    """Remove unchanged world coordinates, which pickling would write in another form; return whether it did."""
    after: Any = getattr(returned, "wcs", None)
    if wcs is None or not hasattr(after, "wcs") or not wcs.wcs.compare(after.wcs):
        return False
    returned.wcs = None
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

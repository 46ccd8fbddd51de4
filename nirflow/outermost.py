"""The outermost layer of the command line: every exception becomes a message and an exit code here.

Errors of users and machines have no traceback. One of a defect has, with a line that asks for a report.
"""

from __future__ import annotations

import signal
import sys
import traceback
from importlib.metadata import PackageNotFoundError, metadata
from typing import Final

import nirflow
from calib_store.own_home import ensure_home
from deployments.standard_streams import guard_standard_streams, output_failure, was_closed
from imaging.machine import machine_error
from imaging.printable import printable, printable_lines
from nirflow.exits import Exit

#: Label of the address for reports in the metadata of the package.
_ISSUES: Final = "Issues"
_DEBUG: Final = "--debug"


def run() -> int:
    """Run the command line and return its exit code.

    Standard output that cannot be written changes only the code, as everything else is done: to 141 if its reader
    closed it, to 1 otherwise. Any other code of the command takes precedence.
    """
    guard_standard_streams()
    code = _command()
    # An interrupt ends the process at once from here on: there is nothing left to do in order.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    failure = output_failure()
    if failure is None or code != Exit.OK:
        return code
    if was_closed(failure):
        return Exit.PIPE_CLOSED
    why = failure.strerror or str(failure)
    sys.stderr.write(f"Error: Standard output cannot be written: {why}. What the command did is done.\n")
    return Exit.FAILED


def _command() -> int:
    try:
        ensure_home()
        from nirflow.cli import main

        main()
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stderr.write(printable_lines(f"{error.code}\n"))
            return Exit.FAILED
        return int(error.code or 0)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the last place that can report it
        return report(error)
    return Exit.OK


def report(error: Exception) -> int:
    """Report an exception on standard error, and return the exit code.

    Errors of the machine and of the input have a message and a remedy, and a traceback only with ``--debug``; a defect
    has its traceback and the address for reports.
    """
    known = machine_error(error)
    lines = []
    if known is None or _DEBUG in sys.argv[1:]:
        lines.append(printable_lines("".join(traceback.format_exception(error)).rstrip()))
    if known is None:
        lines.append(printable(_request()))
    else:
        lines += filter(None, (f"Error: {known.message}", known.details, known.remedy))
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    return Exit.FAILED


def _request() -> str:
    try:
        urls = metadata("nirflow").get_all("Project-URL") or []
    except PackageNotFoundError:
        urls = []
    places = dict(url.split(", ", 1) for url in urls)
    where = f"at {places[_ISSUES]}" if _ISSUES in places else "to its developers"
    return (
        f"This is a defect of nirflow {nirflow.__version__}. Please report it {where}, with the lines above, the "
        "command and its log."
    )

"""The command ``nirflow``, also as ``python -m nirflow``: whatever happens, the user gets a message, not a traceback.

Only what that needs is imported here; an interrupt during the other imports is reported like any other.
"""

import sys
from typing import Any


def main() -> None:
    """Run the command line and exit with its code.

    If a foreign package has the name of one of nirflow's, its file is reported, and the code is 1.
    """
    sys.excepthook = _report
    sys.unraisablehook = _report_ignored
    try:
        from nirflow.own_packages import ForeignPackageError, require_own_packages

        try:
            require_own_packages()
        except ForeignPackageError as error:
            raise SystemExit(f"error: {error}") from None
        from nirflow.outermost import run

        code = run()
    except KeyboardInterrupt:
        code = _interrupted()
    sys.exit(code)


def _interrupted() -> int:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the next one ends the process at once
    if sys.stderr is not None:
        sys.stderr.write("Interrupted.\n")
    return 128 + signal.SIGINT


def _report(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Report an interrupt before or after the command briefly."""
    if issubclass(kind, KeyboardInterrupt):
        _interrupted()
    else:
        sys.__excepthook__(kind, error, trace)


def _report_ignored(ignored: Any) -> None:
    """Interrupt again where a library's compiled code ignored the interrupt; report anything else as usual."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        import _thread
        import threading

        # Later, because this function would be interrupted too.
        threading.Timer(0.01, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(ignored)


def _forget_working_folder() -> None:
    """Import nothing from the working folder, which ``python -m`` searches first, unless nirflow itself is there."""
    from pathlib import Path

    import nirflow

    try:
        here = Path.cwd()
    except OSError:  # it was removed
        return
    if not sys.flags.safe_path and Path(nirflow.__file__).parents[1] != here:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").absolute() != here]


if __name__ == "__main__":
    _forget_working_folder()
    main()

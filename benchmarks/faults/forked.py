"""``nirflow`` in a forked copy of this process, which has everything imported: half the time of a new process."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

#: Seconds between two looks at a running command.
_PAUSE: Final = 0.02


def preload(data: Path) -> ExitStack:
    """Import what `nirflow reduce` needs, connected to the server of a data folder; return what ends that."""
    from deployments.prefect_server.client import connected, quick_imports
    from deployments.prefect_server.server import ensure_server

    stack = ExitStack()
    stack.enter_context(connected(ensure_server(data)))
    with quick_imports():
        import tasks.choose
        import tasks.prefect_internals.heartbeats  # noqa: F401
    return stack


def run_forked(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, patience: float
) -> tuple[int, str, str]:
    """Run the command line in a copy of this process; return exit code, output and standard error.

    This process must have no other threads.
    """
    with tempfile.TemporaryFile("w+b") as out, tempfile.TemporaryFile("w+b") as err:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _become(arguments, environment, folder, out.fileno(), err.fileno())
        code = _wait(child, patience)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return code, texts[0], texts[1]


def _become(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, out: int, err: int
) -> None:
    """Run the command in the child; never returns."""
    code = 1
    try:
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        sys.stderr = os.fdopen(
            2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1
        )
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [str(Path(sys.executable).with_name("nirflow")), *arguments]
        gc.enable()
        from nirflow.__main__ import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 - as the interpreter does with a defect
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, patience: float) -> int:
    end = time.monotonic() + patience
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return -1
        time.sleep(_PAUSE)

"""Logging of a command-line run: every line once in the log file, warnings and above on the console.

The file's lines read ``2024-06-01T03:04:05.678Z WARNING imaging.sky.subtract [science/sky S0012] message``:
time in UTC, level, logger, and the flow run and task run that logged the line.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from deployments.printable_output import printable_records
from deployments.settings.server_settings import LOGGERS
from imaging.errors import NirflowError
from imaging.machine import machine_error, remedy_of, unwritable
from imaging.printable import printable
from nirflow.console.output import print_lines
from tasks.prefect_internals.identifiers import reports_final_state
from tasks.prefect_internals.run_context import run_names


class LogFileError(NirflowError):
    """The log file cannot be written."""


@contextmanager
def configure(
    log_file: Path,
    *,
    level: int | str = logging.INFO,
    console_level: int | str = logging.WARNING,
    console: Console | None = None,
) -> Iterator[None]:
    """Log to a file and to the console inside the block; restore everything after it.

    Entering it again with the same file changes nothing, so no line is written twice. Prefect's own handlers
    may be installed before or later; those that write to the console are muted inside the block.

    Parameters
    ----------
    log_file
        The file to append to; its folder is created if missing.
    level
        Lowest level in the file, for our loggers. Lines of other packages are logged from WARNING, Python's
        default.
    console_level
        Lowest level on the console.
    console
        Where to show them; default: the standard error stream. Pass the console of a progress bar so that the
        two do not overwrite each other.

    Raises
    ------
    LogFileError
        If the file cannot be opened for writing.
    """
    log_file = log_file.resolve()
    root = logging.getLogger()
    if any(isinstance(handler, _RunFileHandler) and handler.path == log_file for handler in root.handlers):
        yield
        return
    with ExitStack() as stack:
        file_handler = _RunFileHandler(log_file, level)
        stack.callback(file_handler.close)
        console_handler = RichHandler(
            level=console_level,
            console=console or Console(stderr=True),
            show_time=False,
            show_path=False,
            markup=False,
        )
        console_handler.setFormatter(_FirstLine())
        console_handler.addFilter(_is_news)
        file_handler.addFilter(_is_news)
        for handler in list(root.handlers):
            if _writes_to_console(handler):
                root.removeHandler(handler)
                stack.callback(root.addHandler, handler)
        for new in (file_handler, console_handler):
            # Prefect, imported after us, would put its own console handler on a bare root logger.
            root.addHandler(new)
            stack.callback(root.removeHandler, new)
        for name in LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(min(file_handler.level, console_handler.level))
        stack.enter_context(_captured_warnings())
        stack.enter_context(printable_records())
        try:
            yield
        except Exception as error:
            if machine_error(error) is None:
                error.add_note(f"Log: {log_file}")
            raise


class _RunFileHandler(logging.FileHandler):
    """The log file: one line per record (a traceback takes more), UTC, with the run that logged it."""

    def __init__(self, path: Path, level: int | str) -> None:
        self.path, self._reported = path, False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            super().__init__(path, encoding="utf-8")
        except OSError as error:
            raise LogFileError(
                f"Cannot write to the log file {path}: {error.strerror or error}.",
                remedy=remedy_of(error, "Choose an output folder with write permission (--out)."),
            ) from error
        self.setLevel(level)
        formatter = logging.Formatter(
            "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s%(run)s %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def format(self, record: logging.LogRecord) -> str:
        record.run = _run_of(record)
        return super().format(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Report once that the file cannot be written, as on a full disk; the run goes on without it."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and not self._reported:
            self._reported = True
            print_lines(f"{unwritable(self.path, error)}", err=True)


class _FirstLine(logging.Formatter):
    """The first line of a message, for a terminal; the traceback is in the log file."""

    def format(self, record: logging.LogRecord) -> str:
        first, _, rest = record.getMessage().partition("\n")
        return f"{first} (more in the log file)" if rest or record.exc_info else first


def _is_news(record: logging.LogRecord) -> bool:
    # Prefect reports a failure twice: when it happens and as the final state of the run.
    return not reports_final_state(record)


def _run_of(record: logging.LogRecord) -> str:
    """Return `` [flow run/task run]`` of a record, or an empty text outside runs."""
    given = vars(record)  # set by Prefect's run loggers
    names = [given.get("flow_run_name"), given.get("task_run_name")]
    if not any(names):
        names = run_names()
    spoken = "/".join(printable(str(name)) for name in names if name)
    return f" [{spoken}]" if spoken else ""


def _writes_to_console(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
    return stream is not None and stream in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)


@contextmanager
def _captured_warnings() -> Iterator[None]:
    before = warnings.showwarning
    logging.captureWarnings(True)
    captured_already = warnings.showwarning is before
    try:
        yield
    finally:
        if not captured_already:
            logging.captureWarnings(False)

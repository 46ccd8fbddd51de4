"""What a process writes without being asked (lines of a log, warnings, tracebacks), made printable in one place.

Not in the formatters: Prefect, uvicorn and astropy have their own. All of them ask the record for its message.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Number
from types import TracebackType
from typing import Any, NoReturn

from imaging.errors import NirflowError
from imaging.printable import indented, printable, printable_lines


class PrintableRecord(logging.LogRecord):
    """A record whose message and traceback are printable, and which begins no line but its first at the margin.

    Line breaks of the arguments are those of somebody else, and escaped. Those of the message itself and of a
    traceback are ours: the lines after the first one are indented.
    """

    _traceback: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.args and isinstance(self.msg, str):  # some handlers show this and not the message
            self.msg = indented(printable_lines(self.msg.rstrip("\n")))

    def getMessage(self) -> str:
        """Return the message, printable."""
        if not self.args and isinstance(self.msg, str):
            return self.msg
        if not isinstance(self.args, tuple):
            return indented(printable_lines(super().getMessage()))
        try:
            text = str(self.msg) % tuple(map(_printable_argument, self.args))
        except (TypeError, ValueError):  # it formats what is no text, by its own rules
            return printable(super().getMessage())
        return indented(printable_lines(text))

    @property
    def exc_text(self) -> str | None:
        """The traceback, as the first formatter wrote it."""
        return self._traceback

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self._traceback = text and indented(f"    {printable_lines(text)}")


class _Shown:
    """An argument of a message, printable whichever way the message asks for it."""

    def __init__(self, argument: object) -> None:
        self._argument = argument

    def __str__(self) -> str:
        return printable(str(self._argument))

    def __repr__(self) -> str:
        return printable(repr(self._argument))


def _printable_argument(argument: object) -> object:
    # The lines of our own errors are our own.
    return argument if isinstance(argument, (Number, NirflowError)) else _Shown(argument)


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose complaints are printable: they repeat the argument that is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and a message on standard error, and exit."""
        super().error(printable(message))


@contextmanager
def printable_records() -> Iterator[None]:
    """Make log records and warnings printable inside the block."""
    factory, warning = logging.getLogRecordFactory(), warnings.formatwarning
    logging.setLogRecordFactory(PrintableRecord)
    warnings.formatwarning = _one_line
    try:
        yield
    finally:
        logging.setLogRecordFactory(factory)
        warnings.formatwarning = warning


def make_output_printable() -> None:
    """Make all that this process writes without being asked printable, from now on; for a program's first line."""
    logging.setLogRecordFactory(PrintableRecord)
    warnings.formatwarning = _one_line
    sys.excepthook = _show
    threading.excepthook = lambda args: _show(args.exc_type, args.exc_value, args.exc_traceback)


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format a warning without the line of source that raised it, which helps nobody."""
    return f"{printable(filename)}:{lineno}: {category.__name__}: {printable(str(message))}\n"


def _show(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    sys.stderr.write(printable_lines("".join(traceback.format_exception(kind, error, trace))))

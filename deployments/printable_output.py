"""Printable log lines, warnings and tracebacks, made in one place.

Not in the formatters, as Prefect, uvicorn and astropy have their own. All of them get the message from the record.
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

from deployments.standard_streams import guard_standard_streams
from imaging.errors import NirflowError
from imaging.printable import indented, printable, printable_lines


class PrintableRecord(logging.LogRecord):
    """A record with a printable message and traceback, in which all lines but the first are indented.

    Line breaks in arguments are not ours, and escaped. Those of the message itself and of a traceback are kept, and the
    lines after the first are indented.
    """

    _traceback: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.args and isinstance(self.msg, str):  # some handlers use this instead of the message
            self.msg = indented(printable_lines(self.msg.rstrip("\n")))

    def getMessage(self) -> str:
        """Return the message, printable."""
        if not self.args and isinstance(self.msg, str):
            return self.msg
        if not isinstance(self.args, tuple):
            return indented(printable_lines(super().getMessage()))
        try:
            text = str(self.msg) % tuple(map(_printable_argument, self.args))
        except (TypeError, ValueError):  # it formats an argument that is not a text with its own rules
            return printable(super().getMessage())
        return indented(printable_lines(text))

    @property
    def exc_text(self) -> str | None:
        """The traceback, as written by the first formatter."""
        return self._traceback

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self._traceback = text and indented(f"    {printable_lines(text)}")


class _Printable:
    """An argument of a message, printable with any conversion."""

    def __init__(self, argument: object) -> None:
        self._argument = argument

    def __str__(self) -> str:
        return printable(str(self._argument))

    def __repr__(self) -> str:
        return printable(repr(self._argument))


def _printable_argument(argument: object) -> object:
    # Line breaks in our own errors are kept.
    return argument if isinstance(argument, (Number, NirflowError)) else _Printable(argument)


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose errors, which repeat the wrong argument, are printable."""

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
    """Make log records, warnings and tracebacks of this process printable; call it first in a program.

    Its standard streams never raise an error from then on (`deployments.standard_streams`).
    """
    guard_standard_streams()
    logging.setLogRecordFactory(PrintableRecord)
    warnings.formatwarning = _one_line
    sys.excepthook = _show
    threading.excepthook = lambda args: _show(args.exc_type, args.exc_value, args.exc_traceback)


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format a warning without the source line that raised it, which does not help users."""
    return f"{printable(filename)}:{lineno}: {category.__name__}: {printable(str(message))}\n"


def _show(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    sys.stderr.write(printable_lines("".join(traceback.format_exception(kind, error, trace))))

"""Log lines, warnings and tracebacks: no input can add a line or a control character."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import HOSTILE, SHOWN, harmful, texts
from hypothesis import given

from deployments.printable_output import printable_records
from imaging.errors import NirflowError


class Written:
    """A logger with the output of a plain handler."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        self.logger = logging.Logger("test")
        self.logger.addHandler(logging.StreamHandler(self.out))

    @property
    def text(self) -> str:
        return self.out.getvalue()


@pytest.fixture(autouse=True)
def _printable() -> Iterator[None]:
    with printable_records():
        yield


@given(texts)
def test_a_line_of_the_log_is_one_line(text: str) -> None:
    written = Written()
    written.logger.warning("%s is %r of %d, %s", text, Path(f"a{text}".replace("\0", "")), 3, OSError(text))
    assert harmful(written.text) == set()
    assert written.text.count("\n") == 1


@given(texts)
def test_further_lines_of_messages_and_tracebacks_are_indented(text: str) -> None:
    written = Written()
    written.logger.warning(text)
    written.logger.warning("%(what)s", {"what": text})
    try:
        raise ValueError(text)
    except ValueError as error:
        written.logger.exception("it failed")
        written.logger.warning(error)
    assert harmful(written.text, breaks="\n\t") == set()
    begun = [line for line in written.text.split("\n") if line and not line.startswith("    ")]
    assert len(begun) <= 4
    assert "it failed" in begun


def test_numbers_keep_their_formats_and_odd_formats_do_not_lose_the_line() -> None:
    written = Written()
    written.logger.warning("%.1f %03d %s %5.2f", np.float32(1.25), 7, None, np.float64(2))
    written.logger.warning("%c %s", "a", HOSTILE)
    assert written.text == f"1.2 007 None  2.00\na {SHOWN}\n"


def test_line_breaks_of_our_own_errors_are_kept() -> None:
    written = Written()
    written.logger.error("%s", NirflowError(HOSTILE, details="the end\nof a log", remedy="See it."))
    assert written.text == f"{SHOWN}\n    the end\n    of a log\n    See it.\n"


def test_a_warning_is_one_printable_line() -> None:
    shown = warnings.formatwarning(UserWarning(HOSTILE), UserWarning, f"{HOSTILE}.py", 3)
    assert shown == f"{SHOWN}.py:3: UserWarning: {SHOWN}\n"


def test_astropys_own_handler_shows_warnings_printable() -> None:
    code = (
        "from deployments.printable_output import make_output_printable; make_output_printable();"
        "import warnings, astropy; from astropy.utils.exceptions import AstropyUserWarning;"
        "warnings.warn(AstropyUserWarning('x\\x1b[31m\\u202e'))"
    )
    returned, error = _run(code)
    assert returned == 0
    assert r"x\x1b[31m\u202e" in error
    assert harmful(error) == set()


@pytest.mark.parametrize("thread", [False, True])
def test_the_traceback_of_a_defect_is_printable(thread: bool) -> None:
    code = (
        "from deployments.printable_output import make_output_printable; make_output_printable()\n"
        "def fail(): raise ValueError('x\\x1b]0;owned\\x07\\u202e')\n"
        f"{'import threading; t = threading.Thread(target=fail); t.start(); t.join()' if thread else 'fail()'}"
    )
    returned, error = _run(code)
    assert returned == (0 if thread else 1)
    assert error.startswith("Traceback")
    assert error.endswith("ValueError: x\\x1b]0;owned\\x07\\u202e\n")


@pytest.mark.parametrize(
    "module", ["deployments.supervisor.command", "deployments.prefect_server.serve", "benchmarks"]
)
def test_a_wrong_argument_of_a_module_is_repeated_printable(module: str) -> None:
    done = _done([sys.executable, "-m", module, "--bind", "127.0.0.1:0", "--x\x1b]0;owned\x07"])
    assert done.returncode == 2
    assert "\\x1b]0;owned\\x07" in done.stderr
    assert harmful(done.stderr) == set()


def _run(code: str) -> tuple[int, str]:
    done = _done([sys.executable, "-c", code])
    return done.returncode, done.stderr


def _done(command: list[Any]) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

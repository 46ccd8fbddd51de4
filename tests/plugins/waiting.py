"""Waiting in tests for other threads, processes and servers; imported by the tests that need it.

Durations depend on the load of the machine, so no test requires speed. There is one limit, far beyond the
needs of a busy machine: it only turns an endless wait into a message.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

#: Limit of every wait, s; below pytest's own limit for a test, so that the message names the missing
#: condition.
PATIENCE: Final = 300.0


def wait_until(
    condition: Callable[[], T],
    what: Callable[[], str] | str = "the expected condition",
    *,
    pause: float = 0.02,
    ignored: tuple[type[Exception], ...] = (),
) -> T:
    """Wait until a condition holds.

    Parameters
    ----------
    condition
        Called repeatedly.
    what
        Name of the condition, for the message of a failure.
    pause
        Time between two calls, s.
    ignored
        Errors of the condition that mean "not yet".

    Returns
    -------
    object
        The first true value of the condition.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if found := condition():
                return found
        except ignored:
            pass
        if time.monotonic() > deadline:
            described = what if isinstance(what, str) else what()
            raise AssertionError(f"Waited {PATIENCE:g} s in vain for {described}.")
        time.sleep(pause)

"""Steps that are retried, and those that never are, within a flow on the real server."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from prefect import allow_failure, flow
from pydantic import BaseModel, ValidationError

from deployments.settings.server_settings import ServerAddress
from imaging.errors import FrameError, NirflowError, StoreError
from tasks.prefect_internals.heartbeats import prompt_heartbeats
from tasks.support import decorator
from tasks.support.decorator import may_pass, step_task


class Given(BaseModel):
    """A model that Prefect need not look into."""

    one: int


def caused(error: Exception, *causes: Exception) -> Exception:
    """Return the error with a chain of causes, the nearest first."""
    at: BaseException = error
    for cause in causes:
        at.__cause__ = cause
        at = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        BlockingIOError(errno.EAGAIN, "again"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        ConnectionResetError("no number"),
        TimeoutError("no number"),
        caused(StoreError("could not be written"), OSError(errno.EIO, "")),
        caused(FrameError("S1.fits", "cannot be read"), ValueError(""), OSError(errno.ETIMEDOUT, "")),
        caused(RuntimeError(), ConnectionResetError("away")),
    ],
)
def test_transient_errors(error: Exception) -> None:
    assert may_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        None,
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        FileNotFoundError(errno.ENOENT, "gone"),
        PermissionError(errno.EACCES, "no"),
        OSError("truncated FITS file"),
        FrameError("S1.fits", "is saturated"),
        StoreError("another product is certified"),
        caused(FrameError("S1.fits", "is truncated"), ValueError("bad"), FileNotFoundError(errno.ENOENT, "")),
        MemoryError(),
        KeyboardInterrupt(),
    ],
)
def test_permanent_errors(error: BaseException | None) -> None:
    assert not may_pass(error)


def test_an_error_raised_while_handling_another_is_not_its_cause() -> None:
    bad = FrameError("S1.fits", "is bad")
    bad.__context__ = OSError(errno.EIO, "")
    assert not may_pass(bad)


@pytest.fixture
def attempts(
    prefect_server: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, int]]:
    """Run a step in a flow that fails with the errors in turn; return its outcome and the number of runs."""
    monkeypatch.setattr(decorator, "PAUSES", (0, 0))

    def run(*errors: Exception, argument: Any = 3) -> tuple[Any, int]:
        left = list(errors)
        calls: list[int] = []

        @step_task("dark", "dark {exposure}")
        def make(exposure: int) -> int:
            calls.append(exposure)
            if left:
                raise left.pop(0)
            return 2 * exposure

        @flow(name="tries")
        def tries() -> Any:
            return make.submit(argument).result(raise_on_failure=False)

        with prompt_heartbeats(tries) as ready:
            return ready(), len(calls)

    return run


def test_a_disk_that_fails_twice_is_tried_a_third_time(attempts: Callable[..., tuple[Any, int]]) -> None:
    bad = OSError(errno.EIO, "Input/output error")
    assert attempts(bad, caused(StoreError("x"), bad)) == (6, 3)


def test_after_the_third_attempt_it_has_failed(attempts: Callable[..., tuple[Any, int]]) -> None:
    result, calls = attempts(*[OSError(errno.EIO, f"{n}") for n in range(5)])
    assert isinstance(result, OSError)
    assert (result.errno, result.strerror, calls) == (errno.EIO, "2", 3)


@pytest.mark.parametrize("error", [FrameError("S1.fits", "is bad"), OSError(errno.ENOSPC, "full")])
def test_bad_data_and_a_full_disk_are_not_tried_again(
    attempts: Callable[..., tuple[Any, int]], error: Exception
) -> None:
    result, calls = attempts(error)
    assert type(result) is type(error)
    assert str(result) == str(error)
    assert calls == 1


def test_bad_data_after_a_transient_failure_ends_the_attempts(
    attempts: Callable[..., tuple[Any, int]],
) -> None:
    result, calls = attempts(TimeoutError(), NirflowError("bad"), TimeoutError())
    assert isinstance(result, NirflowError)
    assert calls == 2


def test_a_wrong_argument_is_refused_before_the_step_and_not_tried_again(
    attempts: Callable[..., tuple[Any, int]],
) -> None:
    result, calls = attempts(argument="long")
    assert isinstance(result, ValidationError)
    assert calls == 0


def test_pauses_between_attempts_and_storage_of_results() -> None:
    @step_task("dark", "dark {exposure}")
    def make(exposure: int) -> int:
        return exposure

    assert (make.name, make.task_run_name, make.tags) == ("dark", "dark {exposure}", set())
    assert (make.retries, make.retry_delay_seconds) == (2, [2, 20])
    assert make.persist_result is False
    assert make.fn(4) == 4


def test_models_are_passed_as_they_are_and_futures_in_lists_are_found(prefect_server: ServerAddress) -> None:
    seen: list[Any] = []

    @step_task("made", "made {given}")
    def made(given: Given) -> Given:
        seen.append(given)
        return Given(one=given.one + 1)

    @step_task("taken", "taken {first}")
    def taken(first: Given, every: list[Any], few: tuple[Given, ...], rest: list[Any]) -> int:
        seen.extend((first, every, few, rest))
        return first.one

    given = Given(one=1)

    @flow(name="passes")
    def passes() -> Any:
        one, bad = made.submit(given), made.submit(Given(one=5))
        return taken.submit(one, [one, allow_failure(bad), 3], few=(given,), rest=[given]).result()

    with prompt_heartbeats(passes) as ready:
        assert ready() == 2
    assert seen[-4:] == [Given(one=2), [Given(one=2), Given(one=6), 3], (given,), [given]]
    assert any(one is given for one in seen[:2])  # the two first tasks run at the same time

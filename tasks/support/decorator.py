"""The decorator of every step: a Prefect task with checked arguments, tried again where the failure may pass."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Any, Final, ParamSpec, TypeVar, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from pydantic import validate_call

P = ParamSpec("P")
R = TypeVar("R")

#: Pauses before the second and the third attempt, s.
PAUSES: Final = (2, 20)
#: What a disk or a network says when it may be well again in a moment. A full disk is not among them.
_PASSING: Final = frozenset(
    {
        errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET,
        errno.ECONNABORTED, errno.ECONNREFUSED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
        errno.ENETUNREACH, errno.ENOTCONN, errno.EPIPE, errno.EREMOTEIO, errno.EDEADLK, errno.ENOLCK,
    }
)  # fmt: skip


def may_pass(error: BaseException | None) -> bool:
    """Whether what failed may go well a little later: a disk or the network. Bad data never does.

    The store waits for its database itself, for a minute: what it gave up is not tried again.
    """
    while error is not None:
        # Connections that a library gave up often have no number.
        if isinstance(error, (ConnectionError, TimeoutError)):
            return True
        if isinstance(error, OSError) and error.errno in _PASSING:
            return True
        error = error.__cause__
    return False


def _again(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return may_pass(error) if isinstance(error, BaseException) else False


def step_task(name: str, run_name: str, tags: Iterable[str] = ()) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a step's Prefect task.

    Its arguments are checked against their annotations. Its result is never cached or stored by Prefect: the
    store is the truth about products.

    Parameters
    ----------
    name
        The kind of step.
    run_name
        Name of one run, with the arguments' names in braces.
    tags
        To be searched by in the UI.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        checked: Any = validate_call(function)
        # Its place in the module, where the task has the function's own: another process finds it by that name.
        checked.__qualname__ += ".fn"
        made: Any = task(
            checked, name=name, task_run_name=run_name, tags=list(tags), cache_policy=NO_CACHE,
            persist_result=False, retries=len(PAUSES), retry_delay_seconds=list(PAUSES),
            retry_condition_fn=_again,
        )  # fmt: skip
        return cast(Task[P, R], made)

    return decorate

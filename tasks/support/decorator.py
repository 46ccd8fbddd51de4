"""The decorator of every step: a Prefect task with checked arguments, retried if the failure may be
transient.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar, cast

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import opaque
from pydantic import BaseModel, validate_call

P = ParamSpec("P")
R = TypeVar("R")

#: Pauses before the second and the third attempt, s.
PAUSES: Final = (2, 20)
#: Errors of a disk or a network that may be transient. A full disk is not among them.
_PASSING: Final = frozenset(
    {
        errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET,
        errno.ECONNABORTED, errno.ECONNREFUSED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
        errno.ENETUNREACH, errno.ENOTCONN, errno.EPIPE, errno.EREMOTEIO, errno.EDEADLK, errno.ENOLCK,
    }
)  # fmt: skip


def may_pass(error: BaseException | None) -> bool:
    """Return whether an attempt may succeed a little later: after a failure of a disk or the network, not for
    bad data.

    The store itself waits up to a minute for its database, so its own failures are not retried.
    """
    while error is not None:
        # Errors of connections that a library gave up often have no number.
        if isinstance(error, (ConnectionError, TimeoutError)):
            return True
        if isinstance(error, OSError) and error.errno in _PASSING:
            return True
        error = error.__cause__
    return False


def _again(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return may_pass(error) if isinstance(error, BaseException) else False


class _StepTask(Task[P, R]):
    """A task whose arguments Prefect does not search for futures where there can be none."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        kept = {"return_state", "wait_for"}
        return super().submit(
            *map(_whole, args), **{name: one if name in kept else _whole(one) for name, one in kwargs.items()}
        )


def _whole(argument: Any) -> Any:
    """Return an argument as one that Prefect does not look into: models of ours, lists of them, and futures of them.

    Prefect looks for futures in every field of every argument, more than once for each run: for a frame this takes
    longer than all else that it does.
    """
    if isinstance(argument, (list, tuple)):
        inner = all(_is_model(one) for one in argument)
    else:
        inner = _is_model(argument) or isinstance(argument, PrefectFuture)
    return opaque(argument) if inner else argument


def _is_model(argument: Any) -> bool:
    return isinstance(argument, BaseModel) and not isinstance(argument, State)


def step_task(name: str, run_name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Turn a function into a step's Prefect task.

    Its arguments are checked against their annotations. Prefect never caches or stores its result: the store
    is the authority on products. It has no tags: for each run of a task with tags Prefect asks the server whether
    a limit of one of them allows it.

    Parameters
    ----------
    name
        Kind of step.
    run_name
        Name of one run, with the arguments' names in braces.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        checked: Any = validate_call(function)
        # The task takes the function's place in its module: another process finds it by that name.
        checked.__qualname__ += ".fn"
        made: Any = _StepTask(
            checked, name=name, task_run_name=run_name, cache_policy=NO_CACHE,
            persist_result=False, retries=len(PAUSES), retry_delay_seconds=list(PAUSES),
            retry_condition_fn=_again,
        )  # fmt: skip
        return cast(Task[P, R], made)

    return decorate

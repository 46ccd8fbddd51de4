"""The threads in which a flow runs its steps: few, and enough for any chain of steps."""

from __future__ import annotations

import threading

from prefect import flow

from deployments.settings.server_settings import ServerAddress
from tasks.prefect_internals.heartbeats import prompt_heartbeats
from tasks.support.decorator import step_task
from tasks.support.step_runner import step_runner


def test_a_chain_longer_than_the_threads_ends_and_takes_no_more_of_them(
    prefect_server: ServerAddress,
) -> None:
    used: set[int] = set()

    @step_task("link", "link {number}")
    def link(number: int, earlier: int) -> int:
        used.add(threading.get_ident())
        return earlier + 1

    @flow(name="chain", task_runner=step_runner())
    def chain() -> int:
        last = link.submit(0, 0)
        for number in range(1, 40):
            last = link.submit(number, last)
        return last.result()

    with prompt_heartbeats(chain) as ready:
        assert ready() == 40
    assert len(used) <= 16

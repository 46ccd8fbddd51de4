"""Answers to wrong passwords are delayed, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from deployments.access.throttled import FIRST, FORGOTTEN, LONGEST, Throttled

AUTHORIZED = [(b"authorization", b"Basic eA==")]


class Bench:
    """A throttled application, with a record of how long each answer was delayed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.answer: dict[str, Any] = {"type": "http.response.start", "status": 401}
        self.throttled = Throttled(self._application, self._sleep, lambda: self.now)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        await send(self.answer)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def ask(
        self, client: str = "10.0.0.7", kind: str = "http", headers: Iterable[Any] = tuple(AUTHORIZED)
    ) -> float:
        """Return how long the answer to a request was delayed, s."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        self.slept.clear()
        scope = {"type": kind, "client": (client, 1), "headers": list(headers)}
        asyncio.run(self.throttled(scope, None, send))  # type: ignore[arg-type]
        assert sent == [self.answer]
        return sum(self.slept)


def test_each_wrong_password_takes_longer_up_to_a_limit() -> None:
    bench = Bench()
    assert [bench.ask() for _ in range(4)] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    for _ in range(100):
        assert bench.ask() <= LONGEST
    assert bench.ask() == LONGEST


def test_another_client_and_the_right_password_are_not_delayed() -> None:
    bench = Bench()
    for _ in range(20):
        bench.ask()
    assert bench.ask(client="10.0.0.8") == FIRST
    bench.answer = {"type": "http.response.start", "status": 200}
    assert bench.ask() == 0.0


def test_a_request_without_a_password_is_not_delayed() -> None:
    assert Bench().ask(headers=()) == 0.0


def test_a_wrong_password_is_forgotten_after_some_time() -> None:
    bench = Bench()
    assert [bench.ask(), bench.ask()] == [FIRST, 2 * FIRST]
    bench.now += FORGOTTEN + 1
    assert bench.ask() == FIRST


@pytest.mark.parametrize(("code", "held"), [(1008, FIRST), (1000, 0.0), (1002, 0.0)])
def test_a_refused_socket_is_delayed_too(code: int, held: float) -> None:
    bench = Bench()
    bench.answer = {"type": "websocket.close", "code": code}
    assert bench.ask(kind="websocket", headers=()) == held


def test_memory_and_log_are_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    for number in range(1100):
        bench.ask(client=f"10.0.{number // 256}.{number % 256}")
    assert len(bench.throttled._failures) == 1000
    caplog.clear()
    for _ in range(1000):
        bench.ask(client="10.9.9.9")
    assert len(caplog.records) == 10
    assert "A wrong password came from 10.9.9.9 (512 in a row)." in caplog.text


def test_the_number_of_delayed_answers_is_limited() -> None:
    async def crowd() -> list[float]:
        waiting: list[float] = []
        gate = asyncio.Event()

        async def sleep(seconds: float) -> None:
            waiting.append(seconds)
            await gate.wait()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 401})

        async def send(message: Any) -> None:
            pass

        throttled = Throttled(application, sleep)
        scope = {"type": "http", "client": ("10.0.0.7", 1), "headers": AUTHORIZED}
        tasks = [asyncio.create_task(throttled(scope, None, send)) for _ in range(50)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)
        assert throttled._waiting == {}
        return waiting

    assert len(asyncio.run(crowd())) == 16

"""Wrong passwords are answered late, and nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from deployments.access.throttled import FIRST, FORGOTTEN, LONGEST, Throttled

AUTHORIZED = [(b"authorization", b"Basic eA==")]


class Bench:
    """Asks a throttled application, and notes how long each answer was held up."""

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
        """How long the answer to a request was held up, s."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        self.slept.clear()
        scope = {"type": kind, "client": (client, 1), "headers": list(headers)}
        asyncio.run(self.throttled(scope, None, send))  # type: ignore[arg-type]
        assert sent == [self.answer]
        return sum(self.slept)


def test_each_wrong_one_takes_longer_up_to_a_bound() -> None:
    bench = Bench()
    assert [bench.ask() for _ in range(4)] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    for _ in range(100):
        assert bench.ask() <= LONGEST
    assert bench.ask() == LONGEST


def test_another_client_and_the_right_password_do_not_wait() -> None:
    bench = Bench()
    for _ in range(20):
        bench.ask()
    assert bench.ask(client="10.0.0.8") == FIRST
    bench.answer = {"type": "http.response.start", "status": 200}
    assert bench.ask() == 0.0


def test_a_question_without_a_password_does_not_wait() -> None:
    assert Bench().ask(headers=()) == 0.0


def test_a_wrong_one_is_forgotten_after_some_time() -> None:
    bench = Bench()
    assert [bench.ask(), bench.ask()] == [FIRST, 2 * FIRST]
    bench.now += FORGOTTEN + 1
    assert bench.ask() == FIRST


@pytest.mark.parametrize(("code", "held"), [(1008, FIRST), (1000, 0.0), (1002, 0.0)])
def test_a_socket_that_is_refused_is_held_up_too(code: int, held: float) -> None:
    bench = Bench()
    bench.answer = {"type": "websocket.close", "code": code}
    assert bench.ask(kind="websocket", headers=()) == held


def test_what_is_remembered_is_bounded_and_the_log_does_not_grow_with_each(
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


def test_so_many_answers_wait_and_no_more() -> None:
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
        asked = [asyncio.create_task(throttled(scope, None, send)) for _ in range(50)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*asked)
        assert throttled._waiting == {}
        return waiting

    assert len(asyncio.run(crowd())) == 16

"""Delays for wrong passwords: each one of a client is answered more slowly than the last, the right one at once.

The delay is bounded, and only the answer to a wrong password is delayed, so no attacker can keep out clients that have
the right one. This slows down an attacker who tries one password after the other. Against one who tries many at a time,
only the length of the password helps: the one that nirflow creates has 192 bits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("uvicorn.error")

#: Delay of the first answer to a wrong password, and the longest, s. Each is twice the previous one.
FIRST: Final = 0.25
LONGEST: Final = 4.0
#: Time without a wrong password after which a client starts again with the first delay, s.
FORGOTTEN: Final = 300.0
#: Number of clients remembered, and of answers to one client delayed at a time; further ones are not delayed.
_CLIENTS: Final = 1000
_WAITING: Final = 16
#: How a server closes a socket whose password is wrong, and how it answers a request.
_POLICY, _UNAUTHORIZED = 1008, 401


class Throttled:
    """An ASGI application that delays its answers to wrong passwords.

    Parameters
    ----------
    app
        The application: it answers 401 to a wrong password, and closes a socket with 1008.
    sleep, clock
        For tests.
    """

    def __init__(
        self,
        app: ASGIApp,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._sleep = sleep
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._waiting: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, after a delay if the password was wrong."""
        if scope["type"] == "http":
            tried = any(name.lower() == b"authorization" for name, _ in scope["headers"])
        else:
            tried = scope["type"] == "websocket"  # its password comes in a message
        if not tried:
            return await self._app(scope, receive, send)
        client = (scope.get("client") or ("?", 0))[0]

        async def send_delayed(message: Message) -> None:
            if _refuses(message):
                await self._delay(client)
            await send(message)

        return await self._app(scope, receive, send_delayed)

    async def _delay(self, client: str) -> None:
        now = self._clock()
        count, last = self._failures.pop(client, (0, now))
        count = 1 if now - last > FORGOTTEN else count + 1
        self._failures[client] = (count, now)
        while len(self._failures) > _CLIENTS:
            self._failures.popitem(last=False)
        if (
            count & (count - 1) == 0
        ):  # the first, second, fourth, eighth ...: an attacker cannot flood the log
            logger.warning("A wrong password came from %s (%d in a row).", client, count)
        waiting = self._waiting.get(client, 0)
        if waiting >= _WAITING:
            return
        self._waiting[client] = waiting + 1
        try:
            await self._sleep(min(FIRST * 2.0 ** min(count - 1, 30), LONGEST))
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]


def _refuses(message: Message) -> bool:
    if message["type"] == "http.response.start":
        return bool(message["status"] == _UNAUTHORIZED)
    return message["type"] == "websocket.close" and message.get("code") == _POLICY

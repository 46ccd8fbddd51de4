"""Limits for WebSockets that have not sent a password yet, on their time and their number.

Anyone can open one, and each costs the server a descriptor and memory. If there are too many, the one that has waited
longest is closed. That is never one of our own clients, as they send the password at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import Message, Receive

#: Time within which a socket must send its password, s.
PATIENCE: Final = 10.0
#: Number of sockets that may wait at a time.
MOST: Final = 100


class Unidentified:
    """The sockets of one server that have not sent a password yet.

    Parameters
    ----------
    patience, most
        How long one of them may wait, s, and how many at a time.
    """

    def __init__(self, patience: float = PATIENCE, most: int = MOST) -> None:
        self._patience = patience
        self._most = most
        self._waiting: dict[asyncio.Timeout, None] = {}

    async def first(self, receive: Receive) -> Message | None:
        """Return the first message of a socket; None if it is late, or too many newer sockets wait."""
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._patience) as allowed:
                self._waiting[allowed] = None
                if len(self._waiting) > self._most:
                    longest = next(iter(self._waiting))
                    del self._waiting[longest]
                    if not longest.expired():  # it may have expired just now
                        longest.reschedule(now)
                try:
                    return await receive()
                finally:
                    self._waiting.pop(allowed, None)
        except TimeoutError:
            return None

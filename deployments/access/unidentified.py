"""WebSockets that have not given a password yet: for a short time, and so many at once.

Anybody can open one, and each costs the server a descriptor and memory. Where there are too many, the one that has
waited longest goes: a client of ours gives its password at once, and is never that one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import Message, Receive

#: How long a socket may wait until it gives its password, s.
PATIENCE: Final = 10.0
#: So many wait at a time.
MOST: Final = 100


class Unidentified:
    """The sockets of one server that have not given a password yet.

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
        """The next message of a socket; None where it has not come in time, or too many others came after it."""
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._patience) as allowed:
                self._waiting[allowed] = None
                if len(self._waiting) > self._most:
                    longest = next(iter(self._waiting))
                    del self._waiting[longest]
                    if not longest.expired():  # its own time may have run out just now
                        longest.reschedule(now)
                try:
                    return await receive()
                finally:
                    self._waiting.pop(allowed, None)
        except TimeoutError:
            return None

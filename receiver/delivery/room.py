"""Bounds on what is in work, so that memory stays flat and small callbacks do not wait behind large ones.

Past a bound a callback is refused at once: its provider sends it again.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

from receiver import metrics
from receiver.errors import OverloadedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Seconds that a large callback may wait for its turn; delivery may take 1.3 s more.
_LONGEST_WAIT: Final = 0.5


class Room:
    """Counts the bytes and events of callbacks that are neither safe nor refused yet."""

    def __init__(self, most_bytes: int, most_events: int) -> None:
        """Take the bounds."""
        self.most_bytes = most_bytes
        self.most_events = most_events
        self.bytes = 0
        self.events = 0
        self._turns = asyncio.Semaphore(2)

    def place(self) -> Place:
        """Return what one callback holds, nothing yet; use it as a context, which gives all back."""
        return Place(self)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Let two large callbacks in at a time: one is read while the other is delivered.

        So no small one waits behind more than these. Raises OverloadedError for one that would wait too long.
        """
        try:
            async with asyncio.timeout(_LONGEST_WAIT):
                await self._turns.acquire()
        except TimeoutError:
            raise OverloadedError("other large callbacks are in work; send again later, or fewer at a time") from None
        try:
            yield
        finally:
            self._turns.release()

    def report(self) -> None:
        """Set the gauges."""
        metrics.IN_FLIGHT_BYTES.set(self.bytes)
        metrics.IN_FLIGHT_EVENTS.set(self.events)


class Place:
    """What one callback holds of the room."""

    __slots__ = ("_bytes", "_events", "_room")

    def __init__(self, room: Room) -> None:
        """Begin with nothing."""
        self._room = room
        self._bytes = 0
        self._events = 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give all back: the callback has its answer."""
        self._room.bytes -= self._bytes
        self._room.events -= self._events

    def take_bytes(self, size: int) -> None:
        """Hold so many bytes that have arrived. Raises OverloadedError."""
        room = self._room
        if room.bytes + size > room.most_bytes and room.bytes > self._bytes:  # who is alone is always let in
            raise OverloadedError(f"{room.bytes} bytes are in work, no room for {size} more; send again later")
        room.bytes += size
        self._bytes += size

    def take_events(self, count: int) -> None:
        """Hold so many events. Raises OverloadedError."""
        room = self._room
        if room.events + count > room.most_events and room.events > self._events:
            raise OverloadedError(f"{room.events} events are in work, no room for {count} more; send again later")
        room.events += count
        self._events += count

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
    from contextlib import AbstractAsyncContextManager

#: Seconds that a large callback may wait for its turn; delivery may take 1.3 s more.
_LONGEST_WAIT: Final = 0.5
#: Seconds within which a callback that is read item by item has to be read, once it is its turn or is refused. After
#: that it is delivered, and a provider waits for 2 s.
_TOLERANT_TIME: Final = 1.0
_SHORTEST_WAIT: Final = 0.1


class Slots:
    """Lets a few in at a time; those that would wait for too long are refused."""

    def __init__(self, count: int, refusal: str) -> None:
        """Take how many are let in, and what to tell those that waited in vain."""
        self._free = asyncio.Semaphore(count)
        self._refusal = refusal

    @asynccontextmanager
    async def slot(self, longest_wait: float) -> AsyncIterator[None]:
        """Hold a slot. Raises OverloadedError when none gets free within these seconds."""
        try:
            async with asyncio.timeout(longest_wait):
                await self._free.acquire()
        except TimeoutError:
            raise OverloadedError(self._refusal) from None
        try:
            yield
        finally:
            self._free.release()


class AdmissionControl:
    """Counts the bytes and events of callbacks that are neither safe nor refused yet."""

    def __init__(self, max_bytes: int, max_events: int) -> None:
        self.max_bytes = max_bytes
        self.max_events = max_events
        self.bytes = 0
        self.events = 0
        # Two, so that one is read while the other is delivered; no small callback waits behind more than these.
        self._large = Slots(2, "other large callbacks are in work; send again later, or fewer at a time")
        self._tolerant = Slots(1, "other callbacks with unexpected items are in work; send again later")

    def admit(self) -> Reservation:
        """Return what one callback holds, nothing yet; use it as a context, which gives all back."""
        return Reservation(self)

    def large_body_slot(self) -> AbstractAsyncContextManager[None]:
        """Hold one of the slots for large callbacks. Raises OverloadedError for one that would wait too long."""
        return self._large.slot(_LONGEST_WAIT)

    def tolerant_slot(self, work: float) -> AbstractAsyncContextManager[None]:
        """Hold the slot for a callback that is read item by item, which takes so many seconds of ``work``.

        Threads would share one processor: of twenty callbacks with 10,000 wrong items, 0.7 s each, every one would be
        answered after 14 s, long after its sender has given up. Raises OverloadedError when it would be answered too
        late.
        """
        return self._tolerant.slot(max(_SHORTEST_WAIT, _TOLERANT_TIME - work))

    def report(self) -> None:
        """Set the gauges."""
        metrics.IN_FLIGHT_BYTES.set(self.bytes)
        metrics.IN_FLIGHT_EVENTS.set(self.events)


class Reservation:
    """What one callback holds of the admission."""

    __slots__ = ("_admission", "_bytes", "_events")

    def __init__(self, admission: AdmissionControl) -> None:
        self._admission = admission
        self._bytes = 0
        self._events = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Give all back: the callback has its answer."""
        self._admission.bytes -= self._bytes
        self._admission.events -= self._events

    def take_bytes(self, size: int) -> None:
        """Hold so many bytes that have arrived. Raises OverloadedError."""
        admission = self._admission
        if (
            admission.bytes + size > admission.max_bytes and admission.bytes > self._bytes
        ):  # who is alone is always let in
            raise OverloadedError(f"{admission.bytes} bytes are in work, no room for {size} more; send again later")
        admission.bytes += size
        self._bytes += size

    def take_events(self, count: int) -> None:
        """Hold so many events. Raises OverloadedError."""
        admission = self._admission
        if admission.events + count > admission.max_events and admission.events > self._events:
            raise OverloadedError(f"{admission.events} events are in work, no room for {count} more; send again later")
        admission.events += count
        self._events += count

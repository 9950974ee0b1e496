"""Admission control: bounds on bytes and events in flight, so that memory stays flat.

A callback beyond a bound is refused at once, and its provider retries. Large callbacks wait for slots of their own, so
that small ones do not wait behind them.
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

#: Seconds that a large callback may wait for a slot; delivery may take 1.3 s more.
_MAX_WAIT: Final = 0.5
#: Seconds for the tolerant parser, waiting for its slot included. Delivery follows, and a provider waits 2 s in all.
_TOLERANT_TIME: Final = 1.0
_MIN_WAIT: Final = 0.1


class Slots:
    """A number of slots. Waiting for one is bounded."""

    def __init__(self, count: int, refusal: str) -> None:
        """``refusal`` is the error message after a wait that was too long."""
        self._free = asyncio.Semaphore(count)
        self._refusal = refusal

    @asynccontextmanager
    async def slot(self, max_wait: float) -> AsyncIterator[None]:
        """Hold a slot. Raises OverloadedError when none becomes free within ``max_wait`` seconds."""
        try:
            async with asyncio.timeout(max_wait):
                await self._free.acquire()
        except TimeoutError:
            raise OverloadedError(self._refusal) from None
        try:
            yield
        finally:
            self._free.release()


class AdmissionControl:
    """Counts the bytes and events of requests in flight: not yet answered."""

    def __init__(self, max_bytes: int, max_events: int) -> None:
        self.max_bytes = max_bytes
        self.max_events = max_events
        self.bytes = 0
        self.events = 0
        # Two, so that one is parsed while the other is delivered.
        self._large = Slots(2, "other large callbacks are in flight; send again later, or fewer items at a time")
        self._tolerant = Slots(1, "other callbacks with unexpected items are in flight; send again later")

    def admit(self) -> Reservation:
        """Return the reservation of one request, still empty. It is a context manager that releases everything."""
        return Reservation(self)

    def large_body_slot(self) -> AbstractAsyncContextManager[None]:
        """Hold one of the slots for large callbacks. Raises OverloadedError after 0.5 s of waiting."""
        return self._large.slot(_MAX_WAIT)

    def tolerant_slot(self, seconds: float) -> AbstractAsyncContextManager[None]:
        """Hold the only slot of the tolerant parser, for a callback that may need ``seconds``.

        Raises OverloadedError when its answer would come too late. Without the slot, twenty callbacks of 10,000 wrong
        items (0.7 s each) would share one processor and all be answered after 14 s, long after the provider's timeout.
        """
        return self._tolerant.slot(max(_MIN_WAIT, _TOLERANT_TIME - seconds))

    def report(self) -> None:
        """Set the gauges."""
        metrics.IN_FLIGHT_BYTES.set(self.bytes)
        metrics.IN_FLIGHT_EVENTS.set(self.events)


class Reservation:
    """The bytes and events that one request holds."""

    __slots__ = ("_admission", "_bytes", "_events")

    def __init__(self, admission: AdmissionControl) -> None:
        self._admission = admission
        self._bytes = 0
        self._events = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Release everything: the request is answered."""
        self._admission.bytes -= self._bytes
        self._admission.events -= self._events

    def add_bytes(self, size: int) -> None:
        """Hold bytes that have arrived. Raises OverloadedError beyond the bound, unless no other request is there."""
        admission = self._admission
        if admission.bytes + size > admission.max_bytes and admission.bytes > self._bytes:
            raise OverloadedError(
                f"{admission.bytes} bytes are in flight, and {size} more exceed the limit; send again later"
            )
        admission.bytes += size
        self._bytes += size

    def add_events(self, count: int) -> None:
        """Hold events. Raises OverloadedError beyond the bound, unless no other request is there."""
        admission = self._admission
        if admission.events + count > admission.max_events and admission.events > self._events:
            raise OverloadedError(
                f"{admission.events} events are in flight, and {count} more exceed the limit; send again later"
            )
        admission.events += count
        self._events += count

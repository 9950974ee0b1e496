"""A bound on what is in work, so that memory stays flat: past it a callback is refused at once."""

from __future__ import annotations

from receiver import metrics
from receiver.errors import OverloadedError


class Room:
    """Counts the bytes and events of callbacks that are neither safe nor refused yet."""

    def __init__(self, most_bytes: int, most_events: int) -> None:
        """Take the bounds."""
        self._most_bytes = most_bytes
        self._most_events = most_events
        self.bytes = 0
        self.events = 0

    def report(self) -> None:
        """Set the gauges."""
        metrics.IN_FLIGHT_BYTES.set(self.bytes)
        metrics.IN_FLIGHT_EVENTS.set(self.events)

    def enter(self, size: int) -> None:
        """Let a callback of so many bytes in. Raises OverloadedError; then it must not ``leave``."""
        if self.bytes + size > self._most_bytes and self.bytes:
            raise OverloadedError(f"{self.bytes} bytes are in work, no room for {size} more; send again later")
        self.bytes += size

    def leave(self, size: int) -> None:
        """Let a callback of so many bytes out: it has its answer."""
        self.bytes -= size

    def add(self, events: int) -> None:
        """Let so many events in. Raises OverloadedError; then they must not be removed."""
        if self.events + events > self._most_events and self.events:
            raise OverloadedError(f"{self.events} events are in work, no room for {events} more; send again later")
        self.events += events

    def remove(self, events: int) -> None:
        """Let so many events out: they are safe, or refused."""
        self.events -= events

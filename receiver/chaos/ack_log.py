"""Records what was sent, what was acknowledged, and the time of every answer. Three bytes an event, for long runs."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Final

#: The name of the segment without a fault.
CALM: Final = "nothing"


@dataclass
class Segment:
    """The answers to callbacks that were sent during one fault. Times are in seconds."""

    fault: str
    injected: int = 0
    acknowledged: int = 0
    #: From sending a callback to its ack.
    acks: array[float] = field(default_factory=lambda: array("f"))
    #: From sending a callback to an answer other than an ack, by HTTP status.
    refusals: dict[int, array[float]] = field(default_factory=dict)
    #: Attempts whose connection broke, as happens when the service is killed.
    broken: int = 0
    #: Attempts that a running service did not answer within the provider's timeout.
    unanswered: int = 0

    def longest(self) -> float:
        """Return the longest time to any answer."""
        return max((max(times) for times in (self.acks, *self.refusals.values()) if times), default=0.0)

    def percentile(self, share: float) -> float:
        """Return the time within which this share of the acks arrived."""
        ordered = sorted(self.acks)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class AckLog:
    """Numbers every event, records which were acknowledged, and assigns both to the current fault."""

    def __init__(self) -> None:
        self.segments: list[Segment] = [Segment(CALM)]
        self.segment = self.segments[0]
        self._segment_of = array("H")
        self._acked = bytearray()

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self._acked)

    def enter(self, fault: str) -> Segment:
        """Assign what follows to this fault."""
        found = next((s for s in self.segments if s.fault == fault), None)
        if found is None:
            found = Segment(fault)
            self.segments.append(found)
        self.segment = found
        return found

    def draw(self, count: int) -> range:
        """Return the numbers of so many new events."""
        first = len(self._acked)
        self._acked.extend(bytes(count))
        self._segment_of.extend([self.segments.index(self.segment)] * count)
        return range(first, first + count)

    def acknowledge(self, numbers: range, seconds: float, segment: Segment) -> None:
        """Record an ack of these events."""
        segment.acks.append(seconds)
        for number in numbers:
            if not self._acked[number]:
                self._acked[number] = 1
                self.segment_of(number).acknowledged += 1

    def refuse(self, status: int, seconds: float, segment: Segment) -> None:
        """Record an answer other than an ack."""
        segment.refusals.setdefault(status, array("f")).append(seconds)

    def is_acknowledged(self, number: int) -> bool:
        """Return whether an event was acknowledged."""
        return bool(self._acked[number])

    def segment_of(self, number: int) -> Segment:
        """Return the segment in which an event was first sent."""
        return self.segments[self._segment_of[number]]

    @property
    def acknowledged(self) -> int:
        """The number of acknowledged events."""
        return sum(segment.acknowledged for segment in self.segments)

"""What was sent, what was acknowledged, and how long every answer took. A byte or three an event, for long runs."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Final

#: The segment when nothing is broken.
CALM: Final = "nothing"


@dataclass
class Segment:
    """What happened while one fault was about. Answer times are in seconds."""

    fault: str
    injected: int = 0
    acknowledged: int = 0
    #: From sending a callback to its ack.
    acks: array[float] = field(default_factory=lambda: array("f"))
    #: From sending a callback to an answer that was no ack, by HTTP status.
    refusals: dict[int, array[float]] = field(default_factory=dict)
    #: Attempts whose connection broke, as it does when the service is killed.
    broken: int = 0
    #: Attempts that a service which lives did not answer within the provider's patience.
    unanswered: int = 0

    def longest(self) -> float:
        """Return the longest time to an answer of any kind."""
        return max((max(times) for times in (self.acks, *self.refusals.values()) if times), default=0.0)

    def percentile(self, share: float) -> float:
        """Return the time within which this share of the acks came."""
        ordered = sorted(self.acks)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class AckLog:
    """Numbers every event, remembers whose ack was promised, and sorts all by the fault of the moment."""

    def __init__(self) -> None:
        """Begin in calm."""
        self.segments: list[Segment] = [Segment(CALM)]
        self.segment = self.segments[0]
        self._segment_of = array("H")
        self._acked = bytearray()

    def __len__(self) -> int:
        """Return how many events were drawn."""
        return len(self._acked)

    def enter(self, fault: str) -> Segment:
        """Sort what comes under this fault."""
        found = next((s for s in self.segments if s.fault == fault), None)
        if found is None:
            found = Segment(fault)
            self.segments.append(found)
        self.segment = found
        return found

    def draw(self, count: int) -> range:
        """Return the numbers of that many new events."""
        first = len(self._acked)
        self._acked.extend(bytes(count))
        self._segment_of.extend([self.segments.index(self.segment)] * count)
        return range(first, first + count)

    def acknowledge(self, numbers: range, seconds: float, segment: Segment) -> None:
        """Write down an ack: these events are promised."""
        segment.acks.append(seconds)
        for number in numbers:
            if not self._acked[number]:
                self._acked[number] = 1
                self.segment_of(number).acknowledged += 1

    def refuse(self, status: int, seconds: float, segment: Segment) -> None:
        """Write down an answer that is no ack."""
        segment.refusals.setdefault(status, array("f")).append(seconds)

    def is_acknowledged(self, number: int) -> bool:
        """Return whether an event was promised."""
        return bool(self._acked[number])

    def segment_of(self, number: int) -> Segment:
        """Return under which fault an event was first sent."""
        return self.segments[self._segment_of[number]]

    @property
    def acknowledged(self) -> int:
        """How many events were promised."""
        return sum(segment.acknowledged for segment in self.segments)

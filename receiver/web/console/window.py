"""The figures of the last quarter of an hour, in bins of a few seconds: plain numbers, no I/O."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from receiver.events import EventType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from receiver.web.console.tails import SeenEvent

K = TypeVar("K")
#: Seconds of a bin, and of all of them.
BIN: Final = 5
WINDOW: Final = 900
#: Upper bounds of delays, in seconds. Providers write whole seconds.
_DELAYS: Final = (
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    10,
    15,
    20,
    30,
    45,
    60,
    90,
    120,
    180,
    300,
    600,
    1800,
    3600,
    7200,
    21600,
    86400,
    604800,
    2592000,
)
#: Providers shown of a project. There are fewer; other programs may write to the streams as well.
_MAX_PROVIDERS: Final = 32
_MEDIAN, _HIGH = 0.5, 0.95


class _Bin:
    """What arrived in a few seconds, by provider: the number of each type, and of each delay."""

    def __init__(self) -> None:
        self.types: defaultdict[str, dict[EventType, float]] = defaultdict(dict)
        self.delays: defaultdict[str, dict[int, float]] = defaultdict(dict)


class Window:
    """Counts events by type and provider, and their delays. Numbers may be fractions: samples stand for more events."""

    def __init__(self, since: float) -> None:
        """``since`` is the first second that is covered: earlier bins are unknown, not empty."""
        self._bins: dict[int, _Bin] = {}
        self.since = since

    def add(self, at: float, event: SeenEvent, number: float) -> None:
        """Count an event as ``number`` events, stored at ``at``, in seconds since the epoch."""
        start = int(at) // BIN * BIN
        bin_ = self._bins.get(start)
        if bin_ is None:
            bin_ = self._bins[start] = _Bin()
        provider = event.provider if event.provider in bin_.types or len(bin_.types) < _MAX_PROVIDERS else "other"
        _add(bin_.types[provider], {event.type: number})
        delay = delay_of(event)
        if delay is not None:
            _add(bin_.delays[provider], {bisect_left(_DELAYS, delay): number})

    def forget(self, now: float) -> None:
        """Drop the bins that are older than the window."""
        oldest = now - WINDOW
        for start in [start for start in self._bins if start < oldest]:
            del self._bins[start]

    def columns(self, first: int, now: float) -> dict[str, list[Any]]:
        """Return the complete bins from ``first`` on, as columns: the rate of each type, and delays in seconds."""
        starts = range(max(first, int(now - WINDOW) // BIN * BIN), int(now) // BIN * BIN, BIN)
        rows = [(start, self._bins.get(start) or _Bin(), start >= self.since) for start in starts]
        columns: dict[str, list[Any]] = {"t": [start for start, _, _ in rows]}
        for event_type in EventType:
            columns[event_type] = [
                round(sum(types.get(event_type, 0) for types in bin_.types.values()) / BIN, 2) if known else None
                for _, bin_, known in rows
            ]
        delays = [_sum(bin_.delays.values()) for _, bin_, _ in rows]
        columns["p50"] = [percentile(counts, _MEDIAN) for counts in delays]
        columns["p95"] = [percentile(counts, _HIGH) for counts in delays]
        return columns

    def providers(self) -> list[dict[str, Any]]:
        """Return the figures of each provider, and of all together under the name None, over the whole window."""
        types: defaultdict[str | None, dict[EventType, float]] = defaultdict(dict)
        delays: defaultdict[str | None, dict[int, float]] = defaultdict(dict)
        for bin_ in self._bins.values():
            for provider, counts in bin_.types.items():
                _add(types[provider], counts)
                _add(types[None], counts)
            for provider, found in bin_.delays.items():
                _add(delays[provider], found)
                _add(delays[None], found)
        return [
            {
                "name": provider,
                **{event_type: round(counts.get(event_type, 0)) for event_type in EventType},
                "p50": percentile(delays[provider], _MEDIAN),
                "p95": percentile(delays[provider], _HIGH),
            }
            for provider, counts in sorted(types.items(), key=lambda one: -sum(one[1].values()))
        ]


def delay_of(event: SeenEvent) -> float | None:
    """Return the seconds from the handset to us; None where the provider sends no time, or clocks contradict it."""
    if event.data.deliver_time is None or event.type not in (EventType.SUCCESS, EventType.FAIL):
        return None
    try:
        delivered = datetime.fromisoformat(event.data.deliver_time)
        seconds = (datetime.fromisoformat(event.receivedtime) - delivered).total_seconds()
    except (ValueError, TypeError):  # TypeError: one of them has no zone
        return None
    return seconds if seconds >= 0 else None


def percentile(counts: Mapping[int, float], share: float) -> float | None:
    """Return the delay in seconds below which a share of the events lies; None without any."""
    total = sum(counts.values())
    if not total:
        return None
    left = share * total
    for bucket in sorted(counts):
        if left <= counts[bucket]:
            low = float(_DELAYS[bucket - 1]) if bucket else 0.0
            high = float(_DELAYS[bucket]) if bucket < len(_DELAYS) else low
            return round(low + (high - low) * left / counts[bucket], 1)
        left -= counts[bucket]
    return float(_DELAYS[-1])


def _add(total: dict[K, float], counts: Mapping[K, float]) -> None:
    for key, number in counts.items():
        total[key] = total.get(key, 0) + number


def _sum(several: Iterable[Mapping[int, float]]) -> dict[int, float]:
    total: dict[int, float] = {}
    for counts in several:
        _add(total, counts)
    return total

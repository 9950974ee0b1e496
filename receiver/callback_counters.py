"""Counts callbacks in plain numbers, and adds them to Prometheus' objects in bulk.

A call of those takes about 1 µs, and each callback would need several.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, ClassVar, Final

from receiver import metrics
from receiver.errors import OUTCOMES
from receiver.events import EventType, seconds_of_utc
from receiver.metrics import OTHER

if TYPE_CHECKING:
    from receiver.providers.base import ParsedCallback, Provider

#: Acks counted before they are flushed: bounds the memory while nothing scrapes the service.
_FLUSH_AT: Final = 1000
#: Events from which on Counter is faster than a loop.
_BULK: Final = 40
#: Of a callback with so many events or more, one in so many has its delay measured: it costs as much as an id.
_DELAY_SAMPLE: Final = 10
_PATHS: Final = ("fast", "slow")
_WITHOUT_EVENT: Final = ("pending", "ignored")
_STATUSES: Final = {EventType.SUCCESS: "delivered", EventType.FAIL: "failed", EventType.SENT: "pending"}
#: Series of reports in this process. A worker publishes all of its series once a second.
MAX_REPORT_SERIES: Final = 2000
#: Project, provider, status and code.
Series = tuple[str, str, str, str]


class ReportSeries:
    """The series of reports. Past the limit, codes have none of their own."""

    def __init__(self, limit: int = MAX_REPORT_SERIES) -> None:
        self._limit = limit
        self._known: set[Series] = set()

    def find(self, series: Series) -> Series:
        """Return the series to count in."""
        if series in self._known:
            return series
        if len(self._known) >= self._limit:
            return *series[:3], OTHER
        self._known.add(series)
        return series


class EndpointCounters:
    """Counts the callbacks of one project at one provider, those of each callback key apart."""

    _all: ClassVar[dict[tuple[str, str, int | None], EndpointCounters]] = {}
    _series: ClassVar[ReportSeries] = ReportSeries()

    def __init__(self, project: str, provider: type[Provider], key: int | None = None) -> None:
        """Create the series of the provider, and of the project at it, with value 0."""
        self._key = metrics.CALLBACK_KEYS.labels(project, provider.name, "none" if key is None else str(key))
        self._project = project
        self._provider = provider.name
        self._codes = provider.codes
        self._paths: defaultdict[str, int] = defaultdict(int)
        self._without_event: defaultdict[str, int] = defaultdict(int)
        self._acks: list[float] = []
        #: Events by type and code.
        self._events: defaultdict[tuple[EventType, str], int] = defaultdict(int)
        #: Seconds from the handset to us.
        self._delays: list[float] = []
        self._create_series()

    @classmethod
    def of(cls, project: str, provider: type[Provider], key: int | None = None) -> EndpointCounters:
        """Return the counters of a project at a provider: the same ones each time.

        ``key`` is the place, from 1, of the callback key that authenticated the callbacks; None for no key.
        """
        name = project, provider.name, key
        if name not in cls._all:
            cls._all[name] = cls(project, provider, key)
        return cls._all[name]

    @classmethod
    def flush(cls) -> None:
        """Add the counts of all endpoints to Prometheus' objects."""
        for counters in cls._all.values():
            counters._flush()  # noqa: SLF001 our own

    def stored(self, parsed: ParsedCallback) -> None:
        """Count a callback whose events and rejected items are stored."""
        now, codes, counts = time.time(), self._codes, self._events
        events = parsed.events
        if len(events) >= _BULK:
            found = Counter([(event.type, event.code if event.code in codes else OTHER) for event in events])
            for key, count in found.items():
                counts[key] += count
        else:
            for event in events:
                counts[event.type, event.code if event.code in codes else OTHER] += 1
        for event in events if len(events) < _DELAY_SAMPLE else events[::_DELAY_SAMPLE]:
            if event.time is not None:
                self._delays.append(now - seconds_of_utc(event.time))
        self._paths[parsed.path] += 1
        if parsed.rejections:
            self._events[EventType.REJECTED, OTHER] += len(parsed.rejections)
        if parsed.pending:
            self._without_event["pending"] += parsed.pending
        if parsed.ignored:
            self._without_event["ignored"] += parsed.ignored

    def acknowledged(self, seconds: float) -> None:
        """Count a callback that was acknowledged after ``seconds``."""
        self._acks.append(seconds)
        if len(self._acks) >= _FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        if not self._paths and not self._acks:
            return
        for (event_type, code), count in self._events.items():
            metrics.EVENTS.labels(self._provider, event_type).inc(count)
            if status := _STATUSES.get(event_type):
                metrics.REPORTS.labels(*self._series.find((self._project, self._provider, status, code))).inc(count)
        # The times of providers are whole seconds.
        metrics.CLOCK_AHEAD.labels(self._provider).inc(sum(delay <= -1 for delay in self._delays))
        metrics.DELAY.observe(self._provider, [max(0, int(delay)) for delay in self._delays])
        metrics.CALLBACKS.labels(self._provider, "ok").inc(len(self._acks))
        metrics.ACK.observe(self._provider, self._acks)
        self._key.inc(len(self._acks))
        for path, count in self._paths.items():
            metrics.READINGS.labels(self._provider, path).inc(count)
        for reason, count in self._without_event.items():
            metrics.ITEMS_WITHOUT_EVENT.labels(self._provider, reason).inc(count)
        for counts in (self._acks, self._paths, self._events, self._without_event, self._delays):
            counts.clear()

    def _create_series(self) -> None:
        provider = self._provider
        metrics.ACK.create(provider)
        metrics.DELAY.create(provider)
        metrics.CLOCK_AHEAD.labels(provider)
        metrics.NEW_FIELDS.labels(provider, OTHER)
        for status in ("delivered", "failed"):
            metrics.REPORTS.labels(*self._series.find((self._project, provider, status, OTHER)))
        for outcome in OUTCOMES:
            metrics.CALLBACKS.labels(provider, outcome)
        for event_type in EventType:
            metrics.EVENTS.labels(provider, event_type)
        for path in _PATHS:
            metrics.READINGS.labels(provider, path)
        for reason in _WITHOUT_EVENT:
            metrics.ITEMS_WITHOUT_EVENT.labels(provider, reason)

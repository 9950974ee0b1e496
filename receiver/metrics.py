"""Every metric, declared once, with its meaning. Names and units follow Prometheus' conventions.

https://prometheus.io/docs/practices/naming/. Label values are our own (providers, error codes, event types, topics,
groups), never taken from requests, but for the names of new fields (``receiver.new_fields``). Each worker counts in its
own memory and publishes its counts to the others (``receiver.peers``). The scraped worker sums them
(``receiver.exposition``).

A labelled counter that first appears with value 1 shows no increase to Prometheus, so an alert would miss the first
burst. The counters that alerts use therefore exist from the start, with value 0.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client import Counter as _Counter
from prometheus_client import Gauge as _Gauge
from prometheus_client import Histogram as _Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from receiver.bulk_histogram import BulkHistogram

#: Our metrics, which are summed over the workers. The default registry has those of Python and the process.
OURS: Final = CollectorRegistry()
Counter: Final = partial(_Counter, registry=OURS)
Gauge: Final = partial(_Gauge, registry=OURS)
Histogram: Final = partial(_Histogram, registry=OURS)
# Otherwise each counter has a gauge with its creation time: twice the series, and meaningless sums.
disable_created_metrics()  # type: ignore[no-untyped-call]

_LATENCIES: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
#: Providers send whole seconds; a carrier may report after days.
_DELAYS: Final = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400, 259200)
#: The label value of all that has no name of its own.
OTHER: Final = "other"
_BATCHES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

CALLBACKS: Final = Counter(
    "receiver_callbacks", "Callbacks answered, by outcome: ok, or the code of the error.", ["provider", "outcome"]
)
CALLBACK_KEYS: Final = Counter(
    "receiver_callback_keys",
    "Callbacks acknowledged, by the callback key that they had: its place in callback_keys, from 1; none: signed, or of"
    " an open project. An old key that stands still is used no longer.",
    ["project", "provider", "key"],
)
CREDENTIALS: Final = ("callback_key", "callback_signature", "token", "signature", "password")
AUTH_FAILURES: Final = Counter(
    "receiver_auth_failures",
    "Wrong credentials, by how they were answered: unauthorized (401), or rate_limited (429) after too many.",
    ["credential", "answer"],
)
for _credential in CREDENTIALS:
    AUTH_FAILURES.labels(_credential, "unauthorized")
    AUTH_FAILURES.labels(_credential, "rate_limited")
#: Outcomes of a reload.
RELOADED, RELOAD_REFUSED, RELOAD_FAILED = "ok", "refused", "failed"
RELOADS: Final = Counter(
    "receiver_reloads",
    "Reloads of projects and secrets, by outcome: ok, refused (a mistake in a file, so nothing changed), or failed.",
    ["outcome"],
)
for _outcome in (RELOADED, RELOAD_REFUSED, RELOAD_FAILED):
    RELOADS.labels(_outcome)
LAST_RELOAD_REFUSED: Final = Gauge(
    "receiver_reload_refused",
    "1 while the last reload is one that was refused or has failed: the files are not what is in force.",
)
CONNECTIONS: Final = Gauge("receiver_open_connections", "Connections of clients that are open.")
SHED_CONNECTIONS: Final = Counter(
    "receiver_shed_connections",
    "Connections closed at the bound: silent (no request yet), idle, or stalled (the client is slow); refused: a new "
    "connection that got 503.",
    ["reason"],
)
for _reason in ("silent", "idle", "stalled", "refused"):
    SHED_CONNECTIONS.labels(_reason)
UNREADABLE: Final = Counter(
    "receiver_unreadable_requests",
    "Requests that are not valid HTTP, so their provider is unknown.",
)
EVENTS: Final = Counter(
    "receiver_events", "Events stored, duplicates and rejected items included.", ["provider", "event_type"]
)
READINGS: Final = Counter(
    "receiver_readings",
    "Callbacks by parser: fast (structs) or slow (marshmallow). A rise of slow: the provider changed its format.",
    ["provider", "way"],
)
ITEMS_WITHOUT_EVENT: Final = Counter(
    "receiver_items_without_event",
    "Items acknowledged without an event: pending (a state that is not final), or ignored (not about SMS).",
    ["provider", "reason"],
)
NEW_FIELDS: Final = Counter(
    "receiver_new_fields",
    "Items with a field that the schema does not know, by its name; other: too many names, or not the name of a field.",
    ["provider", "field"],
)
REPORTS: Final = Counter(
    "receiver_reports",
    "Reports stored, duplicates included, by status (delivered, failed, pending) and receipt code. other: a code that"
    " is not in the provider's table.",
    ["project", "provider", "status", "code"],
)
DELAY: Final = BulkHistogram(
    "receiver_delay_seconds",
    "Time from the handset, as the provider tells it in whole seconds, to us, of reports and replies with a time. Of a"
    " callback with ten items or more, each tenth is measured.",
    "provider", _DELAYS, OURS,
)  # fmt: skip
CLOCK_AHEAD: Final = Counter(
    "receiver_clock_ahead_items",
    "Items among those of receiver_delay_seconds whose time is ahead of our clock: their delay counts as 0. A clock or"
    " a time zone is wrong.",
    ["provider"],
)
ACK: Final = BulkHistogram(
    "receiver_ack_seconds", "Time from a callback's headers to its ack, of acknowledged callbacks.",
    "provider", _LATENCIES, OURS,
)  # fmt: skip
IN_FLIGHT_EVENTS: Final = Gauge("receiver_in_flight_events", "Events received and not yet stored.")
IN_FLIGHT_BYTES: Final = Gauge("receiver_in_flight_bytes", "Bytes of bodies received and not yet answered.")
PUBLISH: Final = Histogram("receiver_publish_seconds", "Time for Redis to answer a batch.", buckets=_LATENCIES)
BATCH: Final = Histogram("receiver_publish_batch_events", "Events sent to Redis in one batch.", buckets=_BATCHES)
ADDED: Final = Counter("receiver_stream_entries_added", "Entries that the script added to streams.")
DUPLICATES: Final = Counter("receiver_duplicate_events", "Events that the script skipped as duplicates.")
PUBLISH_FAILURES: Final = Counter(
    "receiver_publish_failures", "Batches that Redis did not accept, by reason.", ["reason"]
)
SPOOLED: Final = Counter("receiver_spooled_events", "Events committed to the spool on disk.")
DRAINED: Final = Counter("receiver_drained_events", "Events moved from the spool to Redis.")
SPOOL_MAX_BYTES: Final = Gauge("receiver_spool_max_bytes", "Size at which the spool takes no more events.")
SPOOL_FAILURES: Final = Counter(
    "receiver_spool_failures", "Batches that the spool did not accept, by reason.", ["reason"]
)

# The state of each worker. The series of a worker end with it.
ROUTE: Final = partial(
    GaugeMetricFamily, "receiver_route",
    "1 for the current route of events: redis, spool (Redis is away), or refuse (503). The worst of several workers.",
    labels=["route"],
)  # fmt: skip
WORKER_ROUTE: Final = partial(
    GaugeMetricFamily,
    "receiver_worker_route",
    "1 for the current route of a worker's events.",
    labels=["worker", "route"],
)
WORKER_STARTED: Final = partial(
    GaugeMetricFamily, "receiver_worker_start_time_seconds",
    "When a worker started, in seconds since the epoch. The next worker with the same number changes it.",
    labels=["worker"],
)  # fmt: skip
PRIMARY_TAKES_WRITES: Final = partial(
    GaugeMetricFamily, "receiver_primary_takes_writes",
    "1 while all workers can write to a primary of Redis, else 0.",
    labels=["primary"],
)  # fmt: skip
SPOOL_WRITABLE: Final = partial(
    GaugeMetricFamily, "receiver_spool_writable", "1 while a worker can write its spool, else 0.",
    labels=["worker"],
)  # fmt: skip
SPOOL_EVENTS: Final = partial(
    GaugeMetricFamily,
    "receiver_spool_events",
    "Events in the spool, not yet in Redis; those of ended workers included.",
)
SPOOL_BYTES: Final = partial(
    GaugeMetricFamily, "receiver_spool_bytes", "Size of the spool's files, those of ended workers included."
)
SPOOL_FREE_BYTES: Final = partial(
    GaugeMetricFamily, "receiver_spool_free_bytes", "Free space on the disk of the spool."
)

BUILD_INFO: Final = partial(
    GaugeMetricFamily, "receiver_build_info", "1, with the versions of the receiver and of Python.",
    labels=["version", "python"],
)  # fmt: skip

# By topic and group, while events are routed to the topic or it holds entries.
TRIMMED: Final = partial(
    CounterMetricFamily, "receiver_trimmed_entries", "Entries trimmed from streams by age.", labels=["topic"]
)
UNREAD_TRIMMED: Final = partial(
    CounterMetricFamily, "receiver_unread_trimmed",
    "Entries trimmed at the hard cap although a group had not acknowledged them. Alert on any.",
    labels=["topic"],
)  # fmt: skip
STREAM_ENTRIES: Final = partial(
    GaugeMetricFamily, "receiver_stream_entries", "Entries in a topic's stream.", labels=["topic"]
)
DEAD_LETTERS: Final = partial(
    GaugeMetricFamily, "receiver_dead_letters", "Entries of a topic that were put aside, and wait for somebody.",
    labels=["topic"],
)  # fmt: skip
STREAM_MAX_ENTRIES: Final = partial(
    GaugeMetricFamily,
    "receiver_stream_max_entries",
    "The hard cap: entries of a topic past it are trimmed, read or not.",
)
STREAM_BYTES: Final = partial(
    GaugeMetricFamily, "receiver_stream_bytes", "Memory of the ten longest streams of each Redis, as it estimates it.",
    labels=["topic"],
)  # fmt: skip
REDIS_USED_BYTES: Final = partial(
    GaugeMetricFamily, "receiver_redis_used_memory_bytes", "Memory that a Redis uses.", labels=["node"]
)
REDIS_MAX_BYTES: Final = partial(
    GaugeMetricFamily, "receiver_redis_max_memory_bytes", "Memory that a Redis may use (maxmemory); 0 without a limit.",
    labels=["node"],
)  # fmt: skip
GROUP_LAG: Final = partial(
    GaugeMetricFamily, "receiver_group_lag_entries", "Entries that a consumer group has not read.",
    labels=["topic", "group"],
)  # fmt: skip
GROUP_PENDING: Final = partial(
    GaugeMetricFamily, "receiver_group_pending_entries", "Entries read by a group and not acknowledged.",
    labels=["topic", "group"],
)  # fmt: skip
GROUP_OLDEST: Final = partial(
    GaugeMetricFamily, "receiver_group_oldest_unacknowledged_seconds",
    "Age of the oldest entry that a group has not acknowledged.",
    labels=["topic", "group"],
)  # fmt: skip
GROUP_DELIVERIES: Final = partial(
    GaugeMetricFamily, "receiver_group_oldest_deliveries",
    "How often the oldest entry that a group has not acknowledged was delivered to its consumers.",
    labels=["topic", "group"],
)  # fmt: skip
GROUP_STUCK: Final = partial(
    GaugeMetricFamily, "receiver_group_stuck_seconds",
    "For how long one entry has been the oldest that a group has not acknowledged, while it acknowledges later ones. 0"
    " while there is none.",
    labels=["topic", "group"],
)  # fmt: skip

INDEX_ENTRIES: Final = partial(
    GaugeMetricFamily, "receiver_index_entries",
    "Entries that the report index has read, by outcome: applied, skipped (not about a message), or undecodable (not an"
    " event of this service: alert on an increase). claimed counts those taken over from an indexer that died."
    " Counted in Redis for all indexers together, so every replica shows the same value.",
    labels=["outcome"],
)  # fmt: skip

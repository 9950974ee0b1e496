"""Prometheus' text format of the metrics of a service: those of all its workers, summed or by worker.

``receiver.streams.gauges`` has the metrics of topics and consumer groups.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import REGISTRY, Collector

from receiver import metrics
from receiver.peers import ROUTES, Sample, WorkerState, total, unowned_of, worst

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from receiver.peers import WorkerReport

#: Once: it is read from the disk, and a scrape must not hold up the callbacks.
_VERSION: Final = version("sms-callback-receiver")


def samples() -> tuple[list[Sample], list[Sample]]:
    """Return this process's counters and histograms, and its gauges. All are summed over the workers."""
    counters: list[Sample] = []
    gauges: list[Sample] = []
    for family in metrics.OURS.collect():
        found = gauges if family.type == "gauge" else counters
        found += (Sample(family.name, one.name, tuple(one.labels.items()), one.value) for one in family.samples)
    return counters, gauges


def exposition(reports: Iterable[WorkerReport]) -> bytes:
    """Return the metrics of all workers in Prometheus' text format."""
    reports = list(reports)
    texts = [generate_latest(_Sums(reports)), generate_latest(_States([one.state for one in reports if one.state]))]
    if len(reports) == 1:  # with several workers, these values would be those of an arbitrary one
        texts.append(generate_latest(REGISTRY))
    return b"".join(texts)


class _Sums(Collector):
    """The metrics that are summed over the workers."""

    def __init__(self, reports: list[WorkerReport]) -> None:
        self._reports = reports

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for family in metrics.OURS.collect():
            families[family.name] = Metric(family.name, family.documentation, family.type)
        for sample in total(one for report in self._reports for one in (*report.counters, *report.gauges)):
            families[sample.metric].add_sample(sample.name, dict(sample.labels), sample.value)
        yield from families.values()


class _States(Collector):
    """The metrics by worker, and those of the worst one."""

    def __init__(self, states: list[WorkerState]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        yield from self._routes()
        yield from self._spools()
        started, index, build = metrics.WORKER_STARTED(), metrics.INDEX_ENTRIES(), metrics.BUILD_INFO()
        for state in self._states:
            started.add_metric([str(state.worker)], state.started_at)
        for outcome in sorted({outcome for state in self._states for outcome in state.index_entries}):
            index.add_metric([outcome], max(state.index_entries.get(outcome, 0) for state in self._states))
        build.add_metric([_VERSION, platform.python_version()], 1)
        yield from (started, index, build)

    def _routes(self) -> Iterator[Metric]:
        worst_route, by_worker, primaries = metrics.ROUTE(), metrics.WORKER_ROUTE(), metrics.PRIMARY_TAKES_WRITES()
        for name in ROUTES:
            worst_route.add_metric([name], name == worst(self._states).route)
            for state in self._states:
                by_worker.add_metric([str(state.worker), name], name == state.route)
        for name in sorted({name for state in self._states for name in state.primaries}):
            primaries.add_metric([name], all(state.primaries.get(name, True) for state in self._states))
        yield from (worst_route, by_worker, primaries)

    def _spools(self) -> Iterator[Metric]:
        events, size = metrics.SPOOL_EVENTS(), metrics.SPOOL_BYTES()
        writable, free = metrics.SPOOL_WRITABLE(), metrics.SPOOL_FREE_BYTES()
        unowned = unowned_of(self._states)
        events.add_metric([], sum(state.spool_events for state in self._states) + unowned.unowned_events)
        size.add_metric([], sum(state.spool_bytes for state in self._states) + unowned.unowned_bytes)
        for state in self._states:
            writable.add_metric([str(state.worker)], state.spool_writable)
        free.add_metric([], min(state.spool_free_bytes for state in self._states))
        yield from (events, size, writable, free)

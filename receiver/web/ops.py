"""Endpoints for operators: liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from receiver.callback_counters import EndpointCounters
from receiver.exposition import exposition, samples
from receiver.peers import WorkerReport, WorkerState, total_trimmed, worst
from receiver.providers.base import JSON

if TYPE_CHECKING:
    from receiver.delivery.delivery import Delivery
    from receiver.log import Logger
    from receiver.lookups.counts import IndexCounts
    from receiver.peers import Peers
    from receiver.streams.gauges import TopicGauges
    from receiver.web.admission import AdmissionControl


class Ops:
    """``/livez``, ``/readyz`` and ``/metrics``, for all workers of the service."""

    def __init__(  # noqa: PLR0913, PLR0917 the parts whose state it shows
        self,
        delivery: Delivery,
        gauges: TopicGauges,
        admission: AdmissionControl,
        counts: IndexCounts,
        peers: Peers,
        logger: Logger,
    ) -> None:
        self._counts = counts
        self._delivery = delivery
        self._gauges = gauges
        self._admission = admission
        self._peers = peers
        self._logger = logger
        self._started_at = time.time()
        self._shared = True
        self._rendering = asyncio.Lock()
        self._next_exposition: asyncio.Task[bytes] | None = None
        self.stopping = False

    async def livez(self, _request: web.Request) -> web.Response:
        """Answer 200: the event loop runs."""
        return web.Response(body=b'{"status":"alive"}', content_type=JSON)

    async def readyz(self, _request: web.Request) -> web.Response:
        """Answer 200 if any worker can make an event durable, in Redis or its spool, and this one is not stopping.

        A load balancer reaches any worker and can only remove all of them together. While one worker accepts events, a
        retry of a refused callback may succeed, so the service stays ready. ``worst`` shows the worst worker.
        """
        states = self.states()
        own = states[0]
        ready = not self.stopping and any(state.takes_events for state in states)
        worst_state = worst(states)
        parts = {
            "ready": ready,
            "stopping": self.stopping,
            **_parts(own),
            "worst": {"worker": worst_state.worker, "pid": worst_state.pid, **_parts(worst_state)},
        }
        return web.Response(body=msgspec.json.encode(parts), status=200 if ready else 503, content_type=JSON)

    async def metrics(self, _request: web.Request) -> web.Response:
        """Answer in Prometheus' text format.

        One exposition is rendered at a time. Requests that arrive meanwhile share the next one, which bounds their cost
        and gives each of them values from after its arrival.
        """
        if self._next_exposition is None:
            self._next_exposition = asyncio.create_task(self._exposition(), name="exposition")
        body = await asyncio.shield(self._next_exposition)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    def states(self) -> list[WorkerState]:
        """Return the states of all living workers of this service, this one's first."""
        return self._peers.states(self._state())

    def publish(self) -> WorkerReport:
        """Publish this worker's report to the other workers, and return it."""
        EndpointCounters.flush()
        self._admission.report()
        counters, gauges = samples()
        report = WorkerReport(self._state(), counters, gauges, dict(self._gauges.trimmed))
        try:
            self._peers.publish(report)
        except OSError as error:
            if self._shared:
                self._logger.error("metrics.not_shared", error=error)  # noqa: TRY400 a traceback adds nothing
            self._shared = False
        else:
            self._shared = True
        return report

    async def _exposition(self) -> bytes:
        async with self._rendering:
            self._next_exposition = None
            return await asyncio.to_thread(self._render, self.publish())

    def _render(self, own: WorkerReport) -> bytes:
        """Render the metrics of all workers. Runs in a thread: with many topics it would delay callbacks."""
        reports = self._peers.reports(own)
        return exposition(reports) + self._gauges.exposition(total_trimmed(reports))

    def _state(self) -> WorkerState:
        delivery = self._delivery
        spool = delivery.spool
        return WorkerState(
            worker=self._peers.number,
            pid=os.getpid(),
            stopping=self.stopping,
            route=delivery.route,
            takes_writes=delivery.takes_writes,
            primaries=delivery.primaries,
            spool_writable=spool.writable,
            spool_events=spool.events,
            spool_free_bytes=spool.free_bytes,
            spool_reason=None if spool.problem is None else str(spool.problem),
            spool_bytes=spool.bytes,
            unowned_events=spool.unowned.events,
            unowned_bytes=spool.unowned.bytes,
            started_at=self._started_at,
            index_entries=self._counts.latest,
        )


def _parts(state: WorkerState) -> dict[str, Any]:
    """Return the parts of a worker, and the events of ended workers among those of its spool."""
    return {
        "route": state.route,
        "redis": {"takes_writes": state.takes_writes, "primaries": state.primaries},
        "spool": {
            "writable": state.spool_writable,
            "reason": state.spool_reason,
            "events": state.spool_events + state.unowned_events,
        },
    }

"""For whoever operates the service: is it alive, can it take events, what are its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from receiver import metrics
from receiver.providers.base import JSON

if TYPE_CHECKING:
    from receiver.delivery.delivery import Delivery


class Ops:
    """``/livez``, ``/readyz`` and ``/metrics``."""

    def __init__(self, delivery: Delivery) -> None:
        """Take what can be ready or not."""
        self._delivery = delivery
        self.stopping = False

    async def livez(self, _request: web.Request) -> web.Response:
        """Answer: the event loop turns."""
        return web.Response(body=b'{"status":"alive"}', content_type=JSON)

    async def readyz(self, _request: web.Request) -> web.Response:
        """Answer 200 when an event can be made durable, by Redis or by the spool, and the service is not stopping."""
        delivery = self._delivery
        ready = delivery.route != "refuse" and not self.stopping
        parts = {
            "ready": ready,
            "stopping": self.stopping,
            "route": delivery.route,
            "redis": {"takes_writes": delivery.breaker.closed},
            "spool": {
                "writable": delivery.spool.writable,
                "reason": None if delivery.spool.problem is None else str(delivery.spool.problem),
                "events": delivery.spool.events,
            },
        }
        return web.Response(body=msgspec.json.encode(parts), status=200 if ready else 503, content_type=JSON)

    async def metrics(self, _request: web.Request) -> web.Response:
        """Answer in Prometheus' text format."""
        return web.Response(body=metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

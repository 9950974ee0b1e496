"""Starts the parts of the application in order, and stops them in reverse, each within its bound.

| started from top to bottom             | start                             | stop, from bottom to top; its bound    |
|----------------------------------------|-----------------------------------|----------------------------------------|
| embedded Valkey (cli/serve)            | answers a ping                    | 2.5 s                                  |
| counters (web/ops)                     |                                   | publishes the final counts             |
| delivery, retention, fetcher           | opens the spool, probes Redis     | 4 s, for handed-in events first of all |
| dedupe window (delivery)               | announces it, within 0.5 s        | at once                                |
| route overrides, lookups, index counts | reads the overrides               | 1 s                                    |
| reports of this worker                 | publishes one, then one a second  | at once                                |
| report index (runtime/index_process)   | starts the child process          | 3 s, then the child is killed          |
| valkey_watchdog (runtime)              | checks every second               | at once                                |
| viewers of the console (web/console)   | with the first viewer             | at once, before requests in flight     |
| port and connections (web/server)      | listens                           | RECEIVER_STOP_TIMEOUT and 0.25 s       |

``runtime/signals.py`` adds up the bounds, and ends a process that exceeds the sum.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from receiver.redis_client import open_client
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from aiohttp import web

    from receiver.delivery.dedupe_window import DedupeWindow
    from receiver.delivery.delivery import Delivery
    from receiver.log import Logger
    from receiver.lookups.counts import IndexCounts
    from receiver.new_fields import NewFields
    from receiver.redis_client import Client
    from receiver.route_overrides import RouteOverrides
    from receiver.streams.retention import Retention
    from receiver.traced.tracing import Tracing
    from receiver.web.auth_failures import AuthFailures
    from receiver.web.connections import Connections
    from receiver.web.fetcher import Fetcher
    from receiver.web.ops import Ops
    from receiver.web.rejected_items import RejectedItems

#: Seconds between two reports of this worker.
_REPORT_EVERY: Final = 1.0
#: Seconds for the lookups, and for delivery and retention, to close.
_LOOKUPS_CLOSE, _DELIVERY_CLOSE = 1.0, 4.0
CLOSE_TIMEOUT: Final = _LOOKUPS_CLOSE + _DELIVERY_CLOSE


async def final_counts(ops: Ops, _app: web.Application) -> AsyncIterator[None]:
    """Publish once more after every other part has stopped: what was counted until then counts."""
    yield
    ops.publish()


async def delivering(  # noqa: PLR0913, PLR0917 the parts that it starts and stops
    delivery: Delivery,
    retention: Retention,
    streams: Client,
    fetcher: Fetcher,
    traced: Tracing | None,
    logger: Logger,
    _app: web.Application,
) -> AsyncIterator[None]:
    """Open delivery, then trim. At the stop delivery closes first: handed-in events have the whole time to be safe."""
    await asyncio.gather(delivery.open(), open_client(streams))
    retention.start()
    yield
    spans = () if traced is None else (traced.close,)
    closing = _close_all(delivery.close, retention.close, streams.aclose, *spans, fetcher.close)
    if not await _within(_DELIVERY_CLOSE, closing):
        logger.error("delivery.not_closed", **delivery.unfinished())


async def announcing(window: DedupeWindow, _app: web.Application) -> AsyncIterator[None]:
    """Tell the other services and the commands on this Redis which dedupe window is in force."""
    await window.open()
    yield
    await window.close()


async def looking_up(
    overrides: RouteOverrides, redis: Client, counts: IndexCounts, logger: Logger, _app: web.Application
) -> AsyncIterator[None]:
    """Follow the route overrides, and the counts of the indexers."""
    await open_client(redis)
    await overrides.open()
    following = asyncio.create_task(counts.follow(logger), name="index counts")
    yield
    await cancel_and_wait(following)
    if not await _within(_LOOKUPS_CLOSE, _close_all(overrides.close, redis.aclose)):
        logger.warning("lookups.not_closed")


async def reporting(
    ops: Ops,
    parts: tuple[Connections | AuthFailures | NewFields | RejectedItems, ...],
    logger: Logger,
    _app: web.Application,
) -> AsyncIterator[None]:
    """Publish a report of this worker every second, and log what the parts have to report."""

    async def report() -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            try:
                for part in parts:
                    part.report()
                ops.publish()
            except Exception:  # any: without this task the metrics of all workers would stand still
                logger.exception("reports.failed")

    ops.publish()
    publishing = asyncio.create_task(report(), name="reports")
    yield
    await cancel_and_wait(publishing)


async def _close_all(*close: Callable[[], Awaitable[None]]) -> None:
    for one in close:
        await one()


async def _within(seconds: float, closing: Coroutine[Any, Any, None]) -> bool:
    """Tell whether parts have closed within a time."""
    try:
        async with asyncio.timeout(seconds):
            await closing
    except TimeoutError:
        return False
    return True

"""An idle service finds out that Redis takes nothing, and a busy one is not probed for it."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import pytest
import structlog
from redis.asyncio import from_url
from servers import eventually, free_port

from receiver.chaos.proxy import FaultProxy
from receiver.delivery.breaker import IDLE, Breaker
from receiver.delivery.publisher import Publisher
from receiver.events import Entry
from receiver.redis_client import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from servers import Receiver, RedisServer

    Watch = Callable[[str], Awaitable[tuple[Breaker, Publisher]]]

#: Seconds within which an idle service has to know.
PROMISED = 5.0


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    """Watch the Redis of a URL, as delivery does."""
    started = []

    async def start(url: str) -> tuple[Breaker, Publisher]:
        client = connect(url)
        publisher, prober = Publisher(client, 0.5, 86400), Publisher(client, 0.5, 86400)
        breaker = Breaker(prober.probe, lambda _: None, structlog.stdlib.get_logger())
        breaker.start(lambda: publisher.taken_at)
        started.append((breaker, publisher, prober, client))
        return breaker, publisher

    yield start
    for breaker, publisher, prober, client in started:
        for part in (breaker, publisher, prober):
            await part.close()
        await client.aclose()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_an_idle_service_notices_that_redis_has_gone_or_hangs(
    serve: Callable[..., Receiver], own_valkey: Callable[..., RedisServer], end: signal.Signals
) -> None:
    valkey = own_valkey()
    service = serve(REDIS_URL=valkey.url)
    assert json.loads(service.get("/readyz")[1])["route"] == "redis"
    valkey.signal(end)
    eventually(lambda: json.loads(service.get("/readyz")[1])["route"] == "spool", "readyz tells", PROMISED)
    assert service.figure('receiver_route{route="spool"}') == 1
    valkey.signal(signal.SIGCONT)


async def test_an_idle_service_notices_a_network_that_drops_everything(valkey: RedisServer, watch: Watch) -> None:
    """Connections stay open, and nothing comes back."""
    async with FaultProxy(free_port(), valkey.port) as proxy:
        breaker, _ = await watch(f"redis://127.0.0.1:{proxy.port}/0")
        await asyncio.sleep(IDLE * 1.5)  # it is there for a while
        assert breaker.closed
        proxy.half_open()
        async with asyncio.timeout(PROMISED):
            while breaker.closed:
                await asyncio.sleep(0.01)
        proxy.behave()
        async with asyncio.timeout(PROMISED):
            while not breaker.closed:
                await asyncio.sleep(0.01)


async def test_traffic_that_redis_takes_needs_no_probes(own_valkey: Callable[..., RedisServer], watch: Watch) -> None:
    """Writes that Redis takes are not followed by probes; without writes probes come."""
    valkey = own_valkey()

    async def probes() -> int:
        async with from_url(valkey.url) as client:
            stats = await client.info("commandstats")
        return int(stats.get("cmdstat_set", {}).get("calls", 0))

    _, publisher = await watch(valkey.url)
    before = await probes()
    loop = asyncio.get_running_loop()
    end = loop.time() + 2.5 * IDLE
    number = 0
    while loop.time() < end:
        number += 1
        await publisher.write([Entry("urn:smn:local:breaker:busy", number.to_bytes(16, "big"), b"{}")])
        await asyncio.sleep(0.05)
    assert await probes() == before
    async with asyncio.timeout(PROMISED):
        while await probes() == before:
            await asyncio.sleep(0.05)

"""A spool that is drained and looked after, as a service does it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
import structlog

from receiver.delivery.breaker import Breaker
from receiver.delivery.drain import Drain
from receiver.delivery.publisher import Publisher, connect
from receiver.tasks import cancel_and_wait


@pytest.fixture
def running(redis_url):
    """Drain a spool and look after it, as a service does."""

    @asynccontextmanager
    async def run(spool):
        client = connect(redis_url)
        publisher = Publisher(client, 2, 86400)
        logger = structlog.stdlib.get_logger()
        breaker = Breaker(publisher.probe, lambda _: None, logger)
        drain = Drain(spool, [publisher], breaker, logger)
        drain.start()
        healing = asyncio.create_task(spool.keep_healthy(lambda: None))
        yield
        await cancel_and_wait(healing)
        await drain.close()
        await breaker.close()
        await publisher.close()
        await client.aclose()

    return run


async def until(holds, seconds=15):
    """Await what the drain brings about."""
    async with asyncio.timeout(seconds):
        while not (await found if asyncio.iscoroutine(found := holds()) else found):
            await asyncio.sleep(0.02)

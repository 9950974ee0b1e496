"""A spool that is drained and looked after, as a service does it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
import structlog

from receiver.delivery.drain import Drain
from receiver.delivery.topology import topology
from receiver.settings import Settings
from receiver.tasks import cancel_and_wait


@pytest.fixture
def running(redis_url):
    """Drain a spool and look after it, as a service does."""

    @asynccontextmanager
    async def run(spool):
        logger = structlog.stdlib.get_logger()
        primaries = topology(redis_url, Settings(publish_timeout=1.2), lambda: None, logger)
        drain = Drain(spool, primaries, logger)
        await primaries.open()
        drain.start()
        healing = asyncio.create_task(spool.keep_healthy(lambda: None))
        yield
        await cancel_and_wait(healing)
        await drain.close()
        await primaries.finish()
        await primaries.close()

    return run


async def until(holds, seconds=15):
    """Await what the drain brings about."""
    async with asyncio.timeout(seconds):
        while not (await found if asyncio.iscoroutine(found := holds()) else found):
            await asyncio.sleep(0.02)

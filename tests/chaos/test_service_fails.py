"""A service that is killed or stopped in the middle of its work loses nothing that it has acknowledged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chaos.guarantees import goes_on, published, spools

from receiver.chaos.faults import FAULTS

if TYPE_CHECKING:
    from chaos.guarantees import Survives


async def test_a_kill_under_load_loses_nothing(survives: Survives) -> None:
    """SIGKILL between any two instructions, three times: what it had acknowledged is there."""
    async with survives() as harness:
        for _ in range(3):
            await goes_on(harness, 1000)
            await FAULTS["service-killed"].run(harness, 0.1)


async def test_a_kill_with_a_full_spool_loses_nothing(survives: Survives) -> None:
    """Redis is away and the spool full when the service is killed: the next one drains what it left."""
    async with survives() as harness:
        await FAULTS["service-killed-with-spool"].run(harness, 1.0)


async def test_a_kill_together_with_redis_loses_nothing(survives: Survives) -> None:
    """Both are killed at the same moment, and start together."""
    async with survives() as harness:
        await FAULTS["all-killed"].run(harness, 0.5)
        await goes_on(harness)


async def test_a_kill_during_the_drain_doubles_nothing(survives: Survives) -> None:
    """Between publishing a batch and taking it off the disk lies a moment; a kill in it doubles nothing."""
    async with survives(rate=10_000, batch=50) as harness:
        await harness.valkey.kill()
        await spools(harness, 10_000)
        await harness.service.kill()
        await harness.valkey.start()
        for _ in range(3):
            before = published(harness)
            await harness.service.start()
            await harness.until(lambda before=before: published(harness) > before)
            await harness.service.kill()
        await harness.service.start()


async def test_a_stop_under_load_ends_well(survives: Survives) -> None:
    """SIGTERM: it finishes what it has begun and ends with exit code 0, with Redis there and with Redis away."""
    async with survives() as harness:
        assert await harness.service.stop() == 0
        await harness.service.start()
        await harness.valkey.kill()
        await spools(harness)
        assert await harness.service.stop() == 0
        await asyncio.gather(harness.service.start(), harness.valkey.start())


async def test_a_stop_while_redis_stands_still_ends_well(survives: Survives) -> None:
    """SIGTERM while a write waits for a frozen Redis: the write goes to disk, and the exit code is 0."""
    async with survives() as harness:
        harness.valkey.freeze()
        assert await harness.service.stop() == 0
        harness.valkey.thaw()
        await harness.service.start()

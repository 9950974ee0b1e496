"""A service that is killed or stopped in the middle of its work loses nothing that it has acknowledged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from receiver.proving.faults import FAULTS

if TYPE_CHECKING:
    from chaos.guarantees import Survives


async def test_killed_under_load(survives: Survives) -> None:
    """SIGKILL between any two instructions, three times: what it had acknowledged is there."""
    async with survives() as stage:
        for _ in range(3):
            await asyncio.sleep(0.5)
            await FAULTS["service-killed"].run(stage, 0.1)


async def test_killed_with_a_full_spool(survives: Survives) -> None:
    """Redis is away and the spool full when the service is killed: the next one drains what it left."""
    async with survives() as stage:
        await asyncio.sleep(0.3)
        await FAULTS["service-killed-with-spool"].run(stage, 1.0)


async def test_killed_together_with_redis(survives: Survives) -> None:
    """Both are killed at the same moment, and start together."""
    async with survives() as stage:
        await asyncio.sleep(0.5)
        await FAULTS["all-killed"].run(stage, 0.5)
        await asyncio.sleep(0.5)


async def test_killed_while_it_drains(survives: Survives) -> None:
    """Between publishing a batch and taking it off the disk lies a moment; a kill in it doubles nothing."""
    async with survives(rate=10_000, batch=50) as stage:
        await stage.valkey.kill()
        await asyncio.sleep(1.5)
        await stage.service.kill()
        await stage.valkey.start()
        for _ in range(3):
            await stage.service.start()
            await asyncio.sleep(0.1)
            await stage.service.kill()
        await stage.service.start()


async def test_stopped_under_load(survives: Survives) -> None:
    """SIGTERM: it finishes what it has begun and ends with exit code 0, with Redis there and with Redis away."""
    async with survives() as stage:
        await asyncio.sleep(0.5)
        assert await stage.service.stop() == 0
        await stage.service.start()
        await stage.valkey.kill()
        await asyncio.sleep(0.5)
        assert await stage.service.stop() == 0
        await asyncio.gather(stage.service.start(), stage.valkey.start())


async def test_stopped_while_redis_stands_still(survives: Survives) -> None:
    """SIGTERM while a write waits for a frozen Redis: the write goes to disk, and the exit code is 0."""
    async with survives() as stage:
        await asyncio.sleep(0.5)
        stage.valkey.freeze()
        assert await stage.service.stop() == 0
        stage.valkey.thaw()
        await stage.service.start()

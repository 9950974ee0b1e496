"""Whatever becomes of Redis, callbacks are acknowledged, and each is in the streams once when Redis is back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chaos.guarantees import goes_on, refused

from receiver.chaos.faults import FAULTS

if TYPE_CHECKING:
    from chaos.guarantees import Survives

_REDIS_FAULTS = (
    "redis-killed",
    "redis-stopped",
    "redis-frozen",
    "redis-loading",
    "out-of-memory",
    "read-only",
    "scripts-flushed",
    "snapshot-failed",
)


@pytest.mark.parametrize("fault", _REDIS_FAULTS)
async def test_no_callback_is_refused_lost_or_doubled(survives: Survives, fault: str) -> None:
    """Redis fails in every way it knows, under load: all is acknowledged within 2 s, and is in the streams once."""
    async with survives() as harness:
        await FAULTS[fault].run(harness, 1.0)
        await harness.valkey.loaded()
        await goes_on(harness)
    assert refused(harness) == {}


async def test_the_service_takes_events_while_redis_is_away(survives: Survives) -> None:
    """Redis is dead: acks come from disk, and /readyz says so."""
    async with survives(rate=5000) as harness:
        await harness.valkey.kill()
        await harness.until(lambda: harness.spooled() > 0)
        assert await harness.route(harness.service) == "spool"
        before = harness.ack_log.acknowledged
        await harness.until(lambda: harness.ack_log.acknowledged - before > 2000)
        await harness.until(lambda: harness.spooled() > 2000)
        await harness.valkey.start()


async def test_a_service_that_starts_without_redis_takes_events(survives: Survives) -> None:
    """Redis is not there when the service starts: it starts, and acknowledges from disk."""
    async with survives() as harness:
        await harness.valkey.kill()
        await harness.service.kill()
        await harness.service.start()
        before = harness.ack_log.acknowledged
        await harness.until(lambda: harness.ack_log.acknowledged > before)
        await harness.valkey.start()


async def test_a_user_who_may_write_to_topics_alone_is_enough(survives: Survives) -> None:
    """Redis lets us write to no key but topics: after a fault the service finds back all the same."""
    async with survives() as harness:
        with harness.valkey.client() as client:
            client.acl_setuser("default", enabled=True, nopass=True, reset_keys=True, keys=["urn:*", "{urn:*"])
        harness.proxy.cut()
        await goes_on(harness)

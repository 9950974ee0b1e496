"""A fail-over of the primary that Sentinels watch, under load: nothing is missing or doubled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from cluster.test_faults import Load, until

from receiver.chaos.sentinels import SERVICE, ValkeySentinels

if TYPE_CHECKING:
    from pathlib import Path

#: Servers start, fail and agree again, on a machine that may be busy.
pytestmark = pytest.mark.timeout(240)

NOISE = {"timeout", "replicas"}
TOPIC = "urn:smn:local:p:sentinel"


async def killed(sentinels: ValkeySentinels) -> None:
    """End the primary, and start it again once its replica has taken over."""
    primary = sentinels.primary
    await primary.kill()
    await sentinels.failed_over(primary)
    await primary.start()


async def replaced(sentinels: ValkeySentinels) -> None:
    """Plan the fail-over: the old primary goes on taking writes until it is told."""
    former = sentinels.primary
    with sentinels.sentinels[0].client() as client:
        client.execute_command("SENTINEL", "FAILOVER", SERVICE)
    await sentinels.failed_over(former)


@pytest.mark.parametrize("fault", [killed, replaced])
async def test_a_fail_over_loses_and_doubles_nothing(fault: Any, tmp_path: Path) -> None:
    """The service goes away once, or twice if the primary is the former one for a moment; the spool is empty then."""
    sentinels = ValkeySentinels(tmp_path)
    try:
        await sentinels.start()
        load = Load(sentinels.url, tmp_path / "data", [TOPIC], 0)
        with structlog.testing.capture_logs() as logs:
            await load.delivery.open()
            sending = asyncio.create_task(load.run())
            await asyncio.sleep(0.5)
            await fault(sentinels)
            await until(lambda: load.delivery.route == "redis")
            await asyncio.sleep(0.3)
            sending.cancel()
            await asyncio.wait([sending])
            assert sending.cancelled(), sending.exception()
            await until(lambda: not load.delivery.spool.events)
            await load.delivery.close()
        with sentinels.primary.client() as client:
            stored = [fields[b"data"] for _, fields in client.xrange(TOPIC)]
    finally:
        await sentinels.end()
    assert load.acknowledged
    assert load.acknowledged - set(stored) == set()
    assert len(stored) == len(set(stored))
    # On a busy machine the replica may take longer than a callback waits, now and then.
    assert len([log for log in logs if log["event"] == "redis.away" and log["reason"] not in NOISE]) <= 2


async def test_a_sentinel_that_does_not_know_the_service_is_named(tmp_path: Path) -> None:
    """So that the operator finds the name that is wrong."""
    sentinels = ValkeySentinels(tmp_path)
    try:
        await sentinels.start()
        load = Load(sentinels.url.replace(SERVICE, "another"), tmp_path / "data", [TOPIC], 0)
        with structlog.testing.capture_logs() as logs:
            await load.delivery.open()
            await load.delivery.close()
        [away] = [log for log in logs if log["event"] == "redis.away"]
        assert f"a Sentinel watches {SERVICE}" in away["error"]
    finally:
        await sentinels.end()

"""The faults of a cluster: of its nodes, of its fail-overs, and of slots that move."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from receiver.chaos.cluster import ClusterNode, ValkeyCluster, busiest_slot, move_slot, move_slot_atomically
from receiver.chaos.deployment import Fault
from receiver.chaos.faults import service_killed, service_stopped

if TYPE_CHECKING:
    from receiver.chaos.harness import DeploymentHarness


async def primary_killed(harness: DeploymentHarness[ValkeyCluster], seconds: float) -> None:
    """Kill a primary with -9. Its replica is promoted, and it comes back as a replica."""
    killed = harness.random.choice(harness.redis.current_primaries())
    await killed.kill()
    await harness.redis.failed_over(killed)
    await asyncio.sleep(seconds)
    await killed.start()
    await harness.redis.until_healthy()


async def primary_frozen(harness: DeploymentHarness[ValkeyCluster], seconds: float) -> None:
    """Freeze a primary (SIGSTOP). Its replica is promoted, then it thaws with all that it was sent."""
    primary = harness.random.choice(harness.redis.current_primaries())
    with primary.frozen():
        await harness.redis.failed_over(primary)
        await asyncio.sleep(seconds / 2)
    await harness.redis.until_healthy()


async def failover_planned(harness: DeploymentHarness[ValkeyCluster], _seconds: float) -> None:
    """CLUSTER FAILOVER: a replica takes over from its primary, which pauses its clients."""
    primary = harness.random.choice(harness.redis.current_primaries())
    harness.redis.replica_of(primary).cluster("FAILOVER")
    await harness.redis.failed_over(primary)
    await harness.redis.until_healthy()


async def failover_forced(harness: DeploymentHarness[ValkeyCluster], _seconds: float) -> None:
    """CLUSTER FAILOVER TAKEOVER: a replica takes over without asking anyone."""
    primary = harness.random.choice(harness.redis.current_primaries())
    harness.redis.replica_of(primary).cluster("FAILOVER", "TAKEOVER")
    await harness.redis.failed_over(primary)
    await harness.redis.until_healthy()


async def slot_moved(harness: DeploymentHarness[ValkeyCluster], seconds: float) -> None:
    """Move the slot of the longest stream to another node key by key, and back (ASK, TRYAGAIN, MOVED)."""
    slot = await asyncio.to_thread(busiest_slot, harness.redis)
    source = harness.redis.owner(slot)
    await asyncio.to_thread(move_slot, harness.redis, slot, _another(harness, source))
    await asyncio.sleep(seconds)
    await asyncio.to_thread(move_slot, harness.redis, slot, source)


async def slot_moved_atomically(harness: DeploymentHarness[ValkeyCluster], seconds: float) -> None:
    """Move the slot of the longest stream to another node at once, and back (CLUSTER MIGRATESLOTS)."""
    slot = await asyncio.to_thread(busiest_slot, harness.redis)
    source = harness.redis.owner(slot)
    await move_slot_atomically(harness.redis, slot, _another(harness, source))
    await asyncio.sleep(seconds)
    await move_slot_atomically(harness.redis, slot, source)


async def replica_frozen(harness: DeploymentHarness[ValkeyCluster], seconds: float) -> None:
    """Freeze a replica: no batch of its shard is confirmed by it."""
    replica = harness.redis.replica_of(harness.random.choice(harness.redis.current_primaries()))
    with replica.frozen():
        await asyncio.sleep(seconds)
    await harness.redis.until_healthy()


async def shard_away(harness: DeploymentHarness[ValkeyCluster], seconds: float) -> None:
    """Kill a primary and its replica with -9, and start both again."""
    primary = harness.random.choice(harness.redis.current_primaries())
    shard = (primary, harness.redis.replica_of(primary))
    await asyncio.gather(*(node.kill() for node in reversed(shard)))
    await asyncio.sleep(seconds)
    await asyncio.gather(*(node.start() for node in shard))
    await harness.redis.until_healthy()


def _another(harness: DeploymentHarness[ValkeyCluster], node: ClusterNode) -> ClusterNode:
    return harness.random.choice([one for one in harness.redis.current_primaries() if one is not node])


FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault("primary-killed", primary_killed, 3.0),
        Fault("primary-frozen", primary_frozen, 3.0),
        Fault("failover-planned", failover_planned),
        Fault("failover-forced", failover_forced),
        Fault("slot-moved", slot_moved, 2.0),
        Fault("slot-moved-atomically", slot_moved_atomically, 2.0),
        Fault("replica-frozen", replica_frozen, 3.0),
        Fault("shard-away", shard_away, 3.0),
        Fault("service-killed", service_killed),
        Fault("service-stopped", service_stopped),
    )
}

"""A primary and its replica behind a name that leads to the primary, as a managed Redis has them, and their faults.

A batch counts once the replica has it (RECEIVER_REPLICAS), so no fail-over may lose an acknowledged event.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from receiver.chaos.deployment import Fault, eventually
from receiver.chaos.faults import service_killed, service_stopped
from receiver.chaos.processes import HOST, Valkey, free_port
from receiver.chaos.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from redis import Redis

    from receiver.chaos.harness import DeploymentHarness

_LAG: Final = 0.02


class ReplicatedValkey:
    """Two Valkeys. ``name`` leads services to the primary, ``link`` leads the replica to it."""

    settings: Final[Mapping[str, str]] = {"RECEIVER_REPLICAS": "1"}

    def __init__(self, folder: Path) -> None:
        self.primary, self.replica = Valkey(folder / "valkey-a"), Valkey(folder / "valkey-b")
        self.name = FaultProxy(free_port(), self.primary.port)
        self.link = FaultProxy(free_port(), self.primary.port)

    @property
    def url(self) -> str:
        """The URL of the name."""
        return f"redis://{HOST}:{self.name.port}/0"

    async def start(self) -> None:
        """Start both, and the network."""
        await self.name.__aenter__()
        await self.link.__aenter__()
        await self.primary.start()
        await self.replica.start("--replicaof", f"{HOST} {self.link.port}")
        await self.until_healthy()

    async def until_healthy(self) -> None:
        """Wait until the replica follows."""
        await self.primary.loaded()
        await eventually(lambda: self.replica.role() == "replica", "the replica did not follow its primary")

    def primaries(self) -> list[Redis]:
        """Return a client of the primary."""
        return [self.primary.client()]

    def promote(self) -> None:
        """Make the replica the primary. The other one does not know, and the name still leads to it."""
        with self.replica.client() as client:
            client.replicaof("NO", "ONE")
        self.primary, self.replica = self.replica, self.primary

    async def move(self) -> None:
        """Let name and link lead to the primary, and the former one follow it: what it alone has is gone."""
        self.name.lead_to(self.primary.port)
        self.link.lead_to(self.primary.port)
        self.link.cut()
        if self.replica.alive:
            self.follow()
        else:
            await self.replica.start("--replicaof", f"{HOST} {self.link.port}")
        await self.until_healthy()

    def follow(self) -> None:
        """Make the replica follow the link."""
        with self.replica.client() as client:
            client.replicaof(HOST, str(self.link.port))

    async def end(self) -> None:
        """Kill both, and the network."""
        for proxy in (self.name, self.link):
            await proxy.__aexit__(None, None, None)
        for valkey in (self.primary, self.replica):
            await valkey.kill()


async def primary_killed(harness: DeploymentHarness[ReplicatedValkey], seconds: float) -> None:
    """Kill the primary with -9 and promote its replica. The former primary comes back as a replica."""
    await harness.redis.primary.kill()
    harness.redis.promote()
    harness.redis.name.lead_to(harness.redis.primary.port)
    harness.redis.name.cut()
    await asyncio.sleep(seconds)
    await harness.redis.move()


async def primary_frozen(harness: DeploymentHarness[ReplicatedValkey], seconds: float) -> None:
    """Freeze the primary (SIGSTOP) and promote its replica. The former primary thaws with what it was sent."""
    with harness.redis.primary.frozen():
        await asyncio.sleep(seconds)
        harness.redis.promote()
        harness.redis.name.lead_to(harness.redis.primary.port)
    await asyncio.sleep(seconds / 2)
    await harness.redis.move()


async def promoted_plain(harness: DeploymentHarness[ReplicatedValkey], seconds: float) -> None:
    """Promote the replica while the primary goes on accepting writes; the name moves later."""
    harness.redis.promote()
    await asyncio.sleep(seconds)
    await harness.redis.move()


async def promoted_coordinated(harness: DeploymentHarness[ReplicatedValkey], seconds: float) -> None:
    """Hand over with FAILOVER. The former primary is a read-only replica until the name moves."""
    redis = harness.redis
    redis.link.behave()
    with redis.replica.client() as client:
        client.replicaof(HOST, str(redis.primary.port))  # FAILOVER wants the address that the replica follows
    await redis.until_healthy()
    with redis.primary.client() as client:
        client.execute_command("FAILOVER", "TO", HOST, redis.replica.port)
    await eventually(lambda: redis.replica.role() == "primary", "FAILOVER did not promote the replica")
    redis.primary, redis.replica = redis.replica, redis.primary
    await asyncio.sleep(seconds)
    await redis.move()


async def replica_frozen(harness: DeploymentHarness[ReplicatedValkey], seconds: float) -> None:
    """Freeze the replica: no batch is confirmed by it."""
    with harness.redis.replica.frozen():
        await asyncio.sleep(seconds)


async def replica_lags(harness: DeploymentHarness[ReplicatedValkey], seconds: float) -> None:
    """Delay the replica by 20 ms, then kill the primary with -9 and promote the replica."""
    harness.redis.link.delay(_LAG)
    await asyncio.sleep(seconds)
    harness.redis.link.behave()
    await primary_killed(harness, seconds)


async def replica_cut_off(harness: DeploymentHarness[ReplicatedValkey], seconds: float) -> None:
    """Drop all bytes between primary and replica, then kill the primary and promote the replica."""
    harness.redis.link.half_open()
    await asyncio.sleep(seconds)
    await harness.redis.primary.kill()
    harness.redis.link.behave()
    await primary_killed(harness, seconds / 2)


FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault("primary-killed", primary_killed),
        Fault("primary-frozen", primary_frozen),
        Fault("promoted-plain", promoted_plain),
        Fault("promoted-coordinated", promoted_coordinated),
        Fault("replica-frozen", replica_frozen),
        Fault("replica-lags", replica_lags),
        Fault("replica-cut-off", replica_cut_off),
        Fault("service-killed", service_killed),
        Fault("service-stopped", service_stopped),
    )
}

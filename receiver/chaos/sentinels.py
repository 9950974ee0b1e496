"""A primary and its replica, watched by three Sentinels, and their faults.

https://valkey.io/topics/sentinel. The Sentinels are the embedded Valkey's, started with ``--sentinel``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from receiver.chaos.deployment import Fault, eventually
from receiver.chaos.faults import service_killed, service_stopped
from receiver.chaos.processes import HOST, ChaosError, Valkey
from receiver.embedded import valkey_binary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from redis import Redis

    from receiver.chaos.harness import DeploymentHarness

SERVICE: Final = "sms"
_SENTINELS: Final = 3
_QUORUM: Final = 2
#: Milliseconds after which a Sentinel holds a server for dead, and for a fail-over.
_DOWN_AFTER_MS: Final = 1000
_FAILOVER_MS: Final = 5000
_PERIODS_MS: Final = ("INFO-PERIOD", "500", "PUBLISH-PERIOD", "500")


class SentinelProcess(Valkey):
    """One Sentinel. Its configuration is also where it writes what it knows."""

    def configure(self, primary: Valkey) -> None:
        """Write the configuration for the first start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = (
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {self.folder}",
            f"sentinel monitor {SERVICE} {HOST} {primary.port} {_QUORUM}",
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} {_FAILOVER_MS}",
        )
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n", encoding="ascii")

    async def start(self, *options: str) -> None:
        """Start it; return when it listens."""
        self.spawn([str(valkey_binary()), str(self.folder / "sentinel.conf"), "--sentinel", *options])
        await self._until_ready(self.port)
        with self.client() as client:  # faster than in production, so that a run sees more faults
            client.execute_command("SENTINEL", "DEBUG", *_PERIODS_MS)

    def primary_port(self) -> int | None:
        """Return the port of the primary that it knows."""
        try:
            with self.client() as client:
                address = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        except (RedisError, OSError):
            return None
        return int(address[1]) if address else None

    def knows_all(self) -> bool:
        """Tell whether it has found the other Sentinels and the replica: before, it may not fail over."""
        with contextlib.suppress(RedisError, OSError), self.client() as client:
            known = client.sentinel_master(SERVICE)
            return (int(known["num-other-sentinels"]), int(known["num-slaves"])) == (_SENTINELS - 1, 1)
        return False


class ValkeySentinels:
    """Two Valkeys and three Sentinels."""

    settings: Final[Mapping[str, str]] = {"RECEIVER_REPLICAS": "1"}

    def __init__(self, folder: Path) -> None:
        self.nodes = [Valkey(folder / f"valkey-{name}") for name in "ab"]
        self.sentinels = [SentinelProcess(folder / f"sentinel-{number}") for number in range(_SENTINELS)]

    @property
    def url(self) -> str:
        """The URL that names the Sentinels."""
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    async def start(self) -> None:
        """Start all; return when the Sentinels could fail over."""
        primary, replica = self.nodes
        await primary.start()
        await replica.start("--replicaof", f"{HOST} {primary.port}")
        for sentinel in self.sentinels:
            sentinel.configure(primary)
            await sentinel.start()
        await self.until_healthy()

    async def until_healthy(self) -> None:
        """Wait until one node is the primary, the other follows it, and all Sentinels know both."""
        await eventually(self._is_healthy, "Sentinels, primary and replica did not agree")

    def _is_healthy(self) -> bool:
        if sorted(node.role() for node in self.nodes) != ["primary", "replica"]:
            return False
        port = self.primary.port
        return all(sentinel.primary_port() == port and sentinel.knows_all() for sentinel in self.sentinels)

    @property
    def primary(self) -> Valkey:
        """The primary that the Sentinels name. Raises ChaosError if none answers."""
        for sentinel in self.sentinels:
            port = sentinel.primary_port() if sentinel.alive else None
            for node in self.nodes:
                if node.port == port:
                    return node
        raise ChaosError("no Sentinel names a primary")

    @property
    def replica(self) -> Valkey:
        """The other node."""
        primary = self.primary
        return next(node for node in self.nodes if node is not primary)

    def primaries(self) -> list[Redis]:
        """Return a client of the primary."""
        return [self.primary.client()]

    async def failed_over(self, former: Valkey) -> None:
        """Wait until another node than ``former`` is the primary."""
        await eventually(
            lambda: self.primary is not former and self.primary.role() == "primary", "the Sentinels did not fail over"
        )

    async def end(self) -> None:
        """Kill all."""
        for child in (*self.sentinels, *self.nodes):
            await child.kill()


async def primary_killed(harness: DeploymentHarness[ValkeySentinels], seconds: float) -> None:
    """Kill the primary with -9. The Sentinels promote its replica, and it comes back as a replica."""
    await _replaced(harness.redis, seconds)
    await harness.redis.until_healthy()


async def primary_frozen(harness: DeploymentHarness[ValkeySentinels], seconds: float) -> None:
    """Freeze the primary (SIGSTOP). Its replica is promoted, then it thaws with all that it was sent."""
    primary = harness.redis.primary
    with primary.frozen():
        await harness.redis.failed_over(primary)
        await asyncio.sleep(seconds / 2)
    await harness.redis.until_healthy()


async def failover_plain(harness: DeploymentHarness[ValkeySentinels], _seconds: float) -> None:
    """SENTINEL FAILOVER: the replica is promoted while the primary goes on accepting writes."""
    await _fail_over(harness.redis)


async def failover_coordinated(harness: DeploymentHarness[ValkeySentinels], _seconds: float) -> None:
    """SENTINEL FAILOVER … COORDINATED: the primary pauses writes, and hands over (Valkey 9)."""
    await _fail_over(harness.redis, "COORDINATED")


async def replica_frozen(harness: DeploymentHarness[ValkeySentinels], seconds: float) -> None:
    """Freeze the replica: no batch is confirmed by it."""
    with harness.redis.replica.frozen():
        await asyncio.sleep(seconds)
    await harness.redis.until_healthy()


async def sentinel_killed(harness: DeploymentHarness[ValkeySentinels], seconds: float) -> None:
    """Kill a Sentinel with -9, and then the primary. The other two Sentinels promote the replica."""
    sentinel = harness.random.choice(harness.redis.sentinels)
    await sentinel.kill()
    await _replaced(harness.redis, seconds)
    await sentinel.start()
    await harness.redis.until_healthy()


async def all_away(harness: DeploymentHarness[ValkeySentinels], seconds: float) -> None:
    """Kill primary and replica with -9, and start both again."""
    nodes = harness.redis.nodes
    await asyncio.gather(*(node.kill() for node in nodes))
    await asyncio.sleep(seconds)
    await asyncio.gather(*(node.start() for node in nodes))
    await harness.redis.until_healthy()


async def _replaced(redis: ValkeySentinels, seconds: float) -> None:
    """Kill the primary; start it again after the fail-over."""
    killed = redis.primary
    await killed.kill()
    await redis.failed_over(killed)
    await asyncio.sleep(seconds)
    await killed.start()


async def _fail_over(redis: ValkeySentinels, *options: str) -> None:
    former = redis.primary
    sentinel = redis.sentinels[0]

    def accepted() -> bool:
        try:
            with sentinel.client() as client:
                client.execute_command("SENTINEL", "FAILOVER", SERVICE, *options)
        except RedisError:  # -INPROG: the fail-over before is not over for this Sentinel
            return False
        return True

    await eventually(accepted, "the Sentinel refused a fail-over")
    await redis.failed_over(former)
    await redis.until_healthy()


FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault("primary-killed", primary_killed, 3.0),
        Fault("primary-frozen", primary_frozen, 3.0),
        Fault("failover-plain", failover_plain),
        Fault("failover-coordinated", failover_coordinated),
        Fault("replica-frozen", replica_frozen, 3.0),
        Fault("sentinel-killed", sentinel_killed, 2.0),
        Fault("all-away", all_away, 3.0),
        Fault("service-killed", service_killed),
        Fault("service-stopped", service_stopped),
    )
}

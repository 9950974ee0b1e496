"""The faults of one Redis, of the network to it, and of the services. Each breaks a part, waits, and restores it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from receiver.chaos.deployment import Fault
from receiver.chaos.processes import ChaosError

if TYPE_CHECKING:
    from receiver.chaos.harness import DeploymentHarness
    from receiver.chaos.processes import ReceiverProcess
    from receiver.chaos.single import SingleValkey

_REFUSED: Final = 503
_REDIS_TIMEOUT: Final = 10.0


async def redis_killed(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis is killed with -9 and started again."""
    await harness.redis.valkey.kill()
    await asyncio.sleep(seconds)
    await harness.redis.valkey.start()


async def redis_stopped(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis is stopped with SIGTERM, and is away for three times as long."""
    await harness.redis.valkey.stop()
    await asyncio.sleep(3 * seconds)
    await harness.redis.valkey.start()


async def redis_frozen(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis is frozen with all its sockets open (SIGSTOP), then processes what it was sent meanwhile."""
    with harness.redis.valkey.frozen():
        await asyncio.sleep(seconds)


async def redis_loading(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis restarts but is busy loading its data, and answers LOADING to every command."""
    await harness.redis.valkey.kill()
    await asyncio.sleep(seconds / 2)
    # Microseconds to pause after each loaded command: about two commands an event.
    pause = max(1, int(seconds * 1e6 / (1 + 2 * harness.ack_log.acknowledged)))
    await harness.redis.valkey.start("--key-load-delay", str(pause), "--loading-process-events-interval-bytes", "1024")
    await harness.redis.valkey.loaded()


async def out_of_memory(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis has no memory left (OOM, noeviction)."""
    with harness.redis.valkey.client() as client:
        client.config_set("maxmemory", "1mb")
        await asyncio.sleep(seconds)
        client.config_set("maxmemory", "0")


async def read_only(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis becomes a read-only replica of a master that does not exist, then a master again."""
    with harness.redis.valkey.client() as client:
        client.replicaof("127.0.0.1", "1")
        await asyncio.sleep(seconds)
        client.replicaof("NO", "ONE")


async def scripts_flushed(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis' scripts are flushed ten times (NOSCRIPT)."""
    with harness.redis.valkey.client() as client:
        for _ in range(10):
            client.script_flush()
            await asyncio.sleep(seconds / 10)


async def snapshot_failed(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis fails to write its snapshot, and refuses writes because of it (MISCONF)."""
    obstacle = harness.redis.valkey.folder / "dump.rdb"
    obstacle.unlink(missing_ok=True)
    obstacle.mkdir(exist_ok=True)
    with harness.redis.valkey.client() as client:
        client.config_set("save", "3600 1")
        client.bgsave()
        await asyncio.sleep(seconds)
        obstacle.rmdir()
        client.config_set("save", "")
        await _snapshot(harness)


async def reply_lost(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis stores a batch, and its reply is lost with the connection; five times, one reply each."""
    for _ in range(5):
        harness.redis.proxy.drop_reply()
        await asyncio.sleep(seconds / 5)
    with contextlib.suppress(TimeoutError):  # a service that returns from the spool calls no script for a moment
        await harness.until(lambda: not harness.redis.proxy.dropping)


async def connection_cut(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Reset the connections to Redis ten times."""
    for _ in range(10):
        harness.redis.proxy.cut()
        await asyncio.sleep(seconds / 10)


async def connection_refused(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis' port resets every connection."""
    harness.redis.proxy.refuse()
    await asyncio.sleep(seconds)
    harness.redis.proxy.behave()


async def half_open(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Drop all bytes in the network: connections are accepted, and no reply arrives."""
    harness.redis.proxy.half_open()
    await asyncio.sleep(seconds)
    harness.redis.proxy.behave()


async def slow_network(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """All bytes to and from Redis are delayed by nearly the publish timeout, in sum by more."""
    harness.redis.proxy.delay(harness.random.uniform(0.15, 0.35))
    await asyncio.sleep(seconds)
    harness.redis.proxy.behave()


async def trickle(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis' replies arrive a byte at a time."""
    harness.redis.proxy.trickle()
    await asyncio.sleep(seconds)
    harness.redis.proxy.behave()


async def service_killed(harness: DeploymentHarness[Any], seconds: float) -> None:
    """One service is killed with -9 under load and started again."""
    await _restart(harness, harness.random.choice(harness.services), seconds)


async def service_killed_with_spool(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis is away, and a service is killed with -9 while its spool fills; it starts again before Redis does."""
    await harness.redis.valkey.kill()
    await asyncio.sleep(seconds)
    await _restart(harness, harness.random.choice(harness.services), seconds / 2)
    await asyncio.sleep(seconds / 2)
    await harness.redis.valkey.start()


async def all_killed(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis and every service are killed with -9 at once, and start again together."""
    await asyncio.gather(harness.redis.valkey.kill(), *(service.kill() for service in harness.services))
    await asyncio.sleep(seconds / 2)
    await asyncio.gather(harness.redis.valkey.start(), *(service.start() for service in harness.services))


async def service_stopped(harness: DeploymentHarness[Any], seconds: float) -> None:
    """One service gets SIGTERM under load, has to end with exit code 0, and is started again."""
    service = harness.random.choice(harness.services)
    code = await service.stop()
    if code != 0:
        raise ChaosError(f"the service ended with exit code {code} after SIGTERM; see {service.log}")
    await asyncio.sleep(seconds / 2)
    await service.start()


async def disk_refuses(harness: DeploymentHarness[SingleValkey], seconds: float) -> None:
    """Redis is away and every write to the disk fails (RLIMIT_FSIZE): the services have to refuse callbacks."""
    segment = harness.ack_log.segment
    before = len(segment.refusals.get(_REFUSED, ()))
    await harness.redis.valkey.kill()
    for service in harness.services:
        service.deny_disk(deny=True)
    await asyncio.sleep(seconds)
    for service in harness.services:
        service.deny_disk(deny=False)
    if len(segment.refusals.get(_REFUSED, ())) == before:
        raise ChaosError("no callback was refused although neither Redis nor the disk took events")
    await asyncio.sleep(seconds / 2)
    await harness.redis.valkey.start()


FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault("redis-killed", redis_killed),
        Fault("redis-stopped", redis_stopped),
        Fault("redis-frozen", redis_frozen),
        Fault("redis-loading", redis_loading, 2.0),
        Fault("out-of-memory", out_of_memory),
        Fault("read-only", read_only),
        Fault("scripts-flushed", scripts_flushed),
        Fault("snapshot-failed", snapshot_failed),
        Fault("reply-lost", reply_lost),
        Fault("connection-cut", connection_cut),
        Fault("connection-refused", connection_refused),
        Fault("half-open", half_open),
        Fault("slow-network", slow_network),
        Fault("trickle", trickle),
        Fault("service-killed", service_killed),
        Fault("service-killed-with-spool", service_killed_with_spool),
        Fault("all-killed", all_killed),
        Fault("service-stopped", service_stopped),
        Fault("disk-refuses", disk_refuses, linux_only=True),
    )
}


async def _restart(harness: DeploymentHarness[Any], service: ReceiverProcess, seconds: float) -> None:
    await service.kill()
    await asyncio.sleep(seconds)
    await service.start()
    if not service.alive:
        raise ChaosError(f"the service did not survive its start; see {harness.service.log}")


async def _snapshot(harness: DeploymentHarness[SingleValkey]) -> None:
    """Wait for a successful snapshot, after which Redis takes writes again."""
    async with asyncio.timeout(_REDIS_TIMEOUT):
        while True:
            with harness.redis.valkey.client() as client:
                if client.info("persistence")["rdb_last_bgsave_status"] == "ok":
                    return
                with contextlib.suppress(RedisError):  # a snapshot is in progress
                    client.bgsave()
            await asyncio.sleep(0.1)

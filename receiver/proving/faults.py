"""What is broken, each in a few lines: a table of faults. Every one breaks, waits, and mends."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from redis.exceptions import RedisError

from receiver.proving.processes import ProvingError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from receiver.proving.processes import Service
    from receiver.proving.stage import Stage

_REFUSED: Final = 503
_PATIENCE: Final = 10.0


async def redis_killed(stage: Stage, seconds: float) -> None:
    """Redis is killed with -9 and started again."""
    await stage.valkey.kill()
    await asyncio.sleep(seconds)
    await stage.valkey.start()


async def redis_stopped(stage: Stage, seconds: float) -> None:
    """Redis is stopped in peace, and is away for three times as long."""
    await stage.valkey.stop()
    await asyncio.sleep(3 * seconds)
    await stage.valkey.start()


async def redis_frozen(stage: Stage, seconds: float) -> None:
    """Redis stands still with all its sockets open (SIGSTOP), then goes on with what it had been sent."""
    stage.valkey.freeze()
    await asyncio.sleep(seconds)
    stage.valkey.thaw()


async def redis_loading(stage: Stage, seconds: float) -> None:
    """Redis comes back but is busy loading what it kept, and says LOADING to all who ask."""
    await stage.valkey.kill()
    await asyncio.sleep(seconds / 2)
    # A pause of so many microseconds after each command that is loaded: about two an event.
    pause = max(1, int(seconds * 1e6 / (1 + 2 * stage.ledger.acknowledged)))
    await stage.valkey.start("--key-load-delay", str(pause), "--loading-process-events-interval-bytes", "1024")
    await stage.valkey.loaded()


async def out_of_memory(stage: Stage, seconds: float) -> None:
    """Redis has no memory left (OOM, noeviction)."""
    with stage.valkey.client() as client:
        client.config_set("maxmemory", "1mb")
        await asyncio.sleep(seconds)
        client.config_set("maxmemory", "0")


async def read_only(stage: Stage, seconds: float) -> None:
    """Redis becomes a read-only replica of a master that is not there, then a master again."""
    with stage.valkey.client() as client:
        client.replicaof("127.0.0.1", "1")
        await asyncio.sleep(seconds)
        client.replicaof("NO", "ONE")


async def scripts_flushed(stage: Stage, seconds: float) -> None:
    """Redis forgets its scripts, ten times (NOSCRIPT)."""
    with stage.valkey.client() as client:
        for _ in range(10):
            client.script_flush()
            await asyncio.sleep(seconds / 10)


async def snapshot_failed(stage: Stage, seconds: float) -> None:
    """Redis cannot write its snapshot, and refuses writes therefore (MISCONF)."""
    obstacle = stage.valkey.folder / "dump.rdb"
    obstacle.unlink(missing_ok=True)
    obstacle.mkdir(exist_ok=True)
    with stage.valkey.client() as client:
        client.config_set("save", "3600 1")
        client.bgsave()
        await asyncio.sleep(seconds)
        obstacle.rmdir()
        client.config_set("save", "")
        await _snapshot(stage)


async def reply_lost(stage: Stage, seconds: float) -> None:
    """Redis has stored a batch, and its reply is lost with the connection; five times, exactly one reply each."""
    for _ in range(5):
        stage.proxy.drop_reply()
        await asyncio.sleep(seconds / 5)
    with contextlib.suppress(TimeoutError):  # a service on its way back from the spool calls no script for a moment
        await stage.until(lambda: not stage.proxy.dropping)


async def connection_cut(stage: Stage, seconds: float) -> None:
    """Reset the connections to Redis again and again."""
    for _ in range(10):
        stage.proxy.cut()
        await asyncio.sleep(seconds / 10)


async def connection_refused(stage: Stage, seconds: float) -> None:
    """Redis' port resets every connection."""
    stage.proxy.refuse()
    await asyncio.sleep(seconds)
    stage.proxy.behave()


async def half_open(stage: Stage, seconds: float) -> None:
    """Let the network swallow all bytes: connections are accepted and nothing ever comes back."""
    stage.proxy.half_open()
    await asyncio.sleep(seconds)
    stage.proxy.behave()


async def slow_network(stage: Stage, seconds: float) -> None:
    """Everything to and from Redis is late by nearly the publish time-out, in sum more than it."""
    stage.proxy.delay(stage.random.uniform(0.15, 0.35))
    await asyncio.sleep(seconds)
    stage.proxy.behave()


async def trickle(stage: Stage, seconds: float) -> None:
    """Redis' replies come a byte at a time."""
    stage.proxy.trickle()
    await asyncio.sleep(seconds)
    stage.proxy.behave()


async def service_killed(stage: Stage, seconds: float) -> None:
    """One service is killed with -9 under load and started again."""
    await _restart(stage, stage.random.choice(stage.services), seconds)


async def service_killed_with_spool(stage: Stage, seconds: float) -> None:
    """Redis is away, and a service is killed with -9 while its spool fills; it starts again before Redis does."""
    await stage.valkey.kill()
    await asyncio.sleep(seconds)
    await _restart(stage, stage.random.choice(stage.services), seconds / 2)
    await asyncio.sleep(seconds / 2)
    await stage.valkey.start()


async def all_killed(stage: Stage, seconds: float) -> None:
    """Redis and every service are killed with -9 at once, and start again together."""
    await asyncio.gather(stage.valkey.kill(), *(service.kill() for service in stage.services))
    await asyncio.sleep(seconds / 2)
    await asyncio.gather(stage.valkey.start(), *(service.start() for service in stage.services))


async def service_stopped(stage: Stage, seconds: float) -> None:
    """Send a service SIGTERM under load; it has to end with exit code 0, and is started again."""
    service = stage.random.choice(stage.services)
    code = await service.stop()
    if code != 0:
        raise ProvingError(f"the service ended with exit code {code} after SIGTERM; see {service.log}")
    await asyncio.sleep(seconds / 2)
    await service.start()


async def disk_refuses(stage: Stage, seconds: float) -> None:
    """Redis is away and no write to the disk succeeds (RLIMIT_FSIZE): the services have to refuse, not to lie."""
    segment = stage.ledger.segment
    before = len(segment.refusals.get(_REFUSED, ()))
    await stage.valkey.kill()
    for service in stage.services:
        service.deny_disk(deny=True)
    await asyncio.sleep(seconds)
    for service in stage.services:
        service.deny_disk(deny=False)
    if len(segment.refusals.get(_REFUSED, ())) == before:
        raise ProvingError("no callback was refused although neither Redis nor the disk took events")
    await asyncio.sleep(seconds / 2)
    await stage.valkey.start()


class Fault(NamedTuple):
    """A way to break things, by a name for the command line."""

    name: str
    run: Callable[[Stage, float], Awaitable[None]]
    #: Longest time, in seconds, that makes sense in the long form.
    longest: float = 6.0
    linux_only: bool = False

    @property
    def what(self) -> str:
        """What happens, in a sentence."""
        return (self.run.__doc__ or "").strip()


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


def available() -> list[str]:
    """Return the names of the faults that this platform can produce."""
    return [fault.name for fault in FAULTS.values() if sys.platform == "linux" or not fault.linux_only]


async def _restart(stage: Stage, service: Service, seconds: float) -> None:
    await service.kill()
    await asyncio.sleep(seconds)
    await service.start()
    if not service.alive:
        raise ProvingError(f"the service did not survive its start; see {stage.service.log}")


async def _snapshot(stage: Stage) -> None:
    """Write a snapshot that succeeds, so that Redis takes writes again."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            with stage.valkey.client() as client:
                if client.info("persistence")["rdb_last_bgsave_status"] == "ok":
                    return
                with contextlib.suppress(RedisError):  # one is under way
                    client.bgsave()
            await asyncio.sleep(0.1)

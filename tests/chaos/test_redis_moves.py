"""The name of Redis moves to a new primary, and the connections to the old one, now its replica, stay open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chaos.guarantees import refused

from receiver.chaos.processes import HOST, Valkey

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.guarantees import Survives

    from receiver.chaos.harness import Harness


def role(valkey: Valkey) -> str:
    """Return what a server is: master, or slave once it has all that its primary has."""
    with valkey.client() as client:
        info = client.info("replication")
    return str(info["role"]) if info.get("master_link_status", "up") == "up" else "joining"


async def swap_roles(harness: Harness, primary: Valkey, replica: Valkey) -> None:
    """Make the replica the primary, with all that was written."""
    with primary.client() as client:
        client.execute_command("FAILOVER", "TO", HOST, replica.port)
    await harness.until(lambda: (role(primary), role(replica)) == ("slave", "master"))


def refusals(harness: Harness) -> int:
    """Count how often the service has gone away from Redis because of a read-only replica."""
    return sum('"redis.away"' in line and '"ReadOnly"' in line for line in harness.service.log.read_text().splitlines())


async def test_the_service_follows_a_name_that_moves(survives: Survives, tmp_path: Path) -> None:
    """It goes away from Redis once, although all its connections lead to a read-only replica, and comes back for good.

    On a busy machine a batch may be under way with every publisher when the roles change.
    """
    primary: Valkey | None = None
    replica = Valkey(tmp_path / "replica")
    try:
        async with survives(rate=1000, settings={"RECEIVER_PUBLISH_TIMEOUT": "1.2s"}) as harness:
            primary = harness.valkey
            await replica.start("--replicaof", f"{HOST} {primary.port}")
            await harness.until(lambda: role(replica) == "slave")
            # Every drainer has a connection to the old primary: it has just emptied the spool.
            harness.proxy.refuse()
            await harness.until(lambda: harness.spooled() > 4000)
            harness.proxy.behave()
            assert await harness.settled()
            await swap_roles(harness, primary, replica)
            await harness.until(lambda: harness.spooled() > 500)
            harness.proxy.lead_to(replica.port)
            harness.redis.valkey = replica
            assert await harness.settled()
            await asyncio.sleep(1)  # for refusals that should not come
            assert 1 <= refusals(harness) <= 2
        assert refused(harness) == {}
    finally:
        if primary is not None:
            await primary.kill()
        await replica.kill()

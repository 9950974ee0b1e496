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


def changes(harness: Harness) -> int:
    """Count how often the service has gone away from Redis and come back."""
    said = harness.service.log.read_text()
    return said.count('"redis.away"') + said.count('"redis.back"')


async def test_the_service_follows_a_name_that_moves(survives: Survives, tmp_path: Path) -> None:
    """It goes away from Redis once and comes back once, although all its connections lead to a read-only replica."""
    replica = Valkey(tmp_path / "replica")
    try:
        async with survives() as harness:
            primary = harness.valkey
            await replica.start("--replicaof", f"{HOST} {primary.port}")
            await harness.until(lambda: role(replica) == "slave")
            # Every drainer has a connection to the old primary: it has just emptied the spool.
            harness.proxy.refuse()
            await harness.until(lambda: harness.spooled() > 5000)
            harness.proxy.behave()
            assert await harness.settled()
            before = changes(harness)

            await swap_roles(harness, primary, replica)
            await harness.until(lambda: harness.spooled() > 1000)
            harness.proxy.lead_to(replica.port)
            harness.valkey = replica
            assert await harness.settled()
            await asyncio.sleep(1)  # for changes that should not come
            assert changes(harness) - before <= 3
        assert refused(harness) == {}
    finally:
        await primary.kill()
        await replica.kill()

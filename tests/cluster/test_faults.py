"""A shard breaks, fails over, or hands a slot on: nothing is missing or doubled, and the others do not notice."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from redis.crc import key_slot

from receiver.chaos.cluster import move_slot, move_slot_atomically
from receiver.chaos.processes import HOST
from receiver.delivery.delivery import Delivery
from receiver.errors import UnavailableError
from receiver.events import Entry
from receiver.redis_client import connect, on, open_client
from receiver.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from receiver.chaos.cluster import ClusterNode, ValkeyCluster

#: Servers start, fail and agree again, on a machine that may be busy.
pytestmark = pytest.mark.timeout(240)

#: Events in a callback, and seconds between two callbacks.
EVENTS, PAUSE = 20, 0.005
CHANGES = {"redis.away", "redis.back"}
#: Each test has topics of its own.
projects = itertools.count()


class Load:
    """Callbacks of one service to some topics, each event numbered."""

    def __init__(self, url: str, folder: Path, topics: list[str], first: int) -> None:
        """``run`` sends them. ``first`` is the number of the first event."""
        self.topics = topics
        settings = Settings(data_dir=folder, publish_timeout=1.2, replicas=1)
        self.delivery = Delivery(settings, url, structlog.get_logger("load"))
        self.acknowledged: set[bytes] = set()
        self.refused = 0
        self.sent = first

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await asyncio.gather(self._send(), asyncio.sleep(PAUSE))

    async def _send(self) -> None:
        numbers = range(self.sent, self.sent + EVENTS)
        self.sent += EVENTS
        entries = [
            Entry(self.topics[number % len(self.topics)], number.to_bytes(16, "big"), b'"%d"' % number)
            for number in numbers
        ]
        try:
            await self.delivery.store(entries, 1000)
        except UnavailableError:
            self.refused += 1
        else:
            self.acknowledged |= {entry.data for entry in entries}

    @contextmanager
    def disk_refuses(self) -> Iterator[None]:
        """Let the spool refuse every event: none of them may go there."""
        file = self.delivery.spool.file
        assert file is not None
        with closing(sqlite3.connect(file.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield


async def shard_killed(cluster: ValkeyCluster, node: ClusterNode, _slot: int) -> None:
    """End a primary and its replica, and start them again: their data is on their disks."""
    shard = (cluster.replica_of(node), node)
    for one in shard:
        await one.kill()
    await asyncio.sleep(0.5)
    await asyncio.gather(*(one.start() for one in shard))


async def killed(cluster: ValkeyCluster, node: ClusterNode, _slot: int) -> None:
    """End a primary. Its replica takes over, and takes events again once the former primary follows it."""
    await node.kill()
    await cluster.failed_over(node)
    await node.start()


async def frozen(cluster: ValkeyCluster, node: ClusterNode, _slot: int) -> None:
    """Let a primary answer nothing until its replica has taken over."""
    with node.frozen():
        await cluster.failed_over(node)


async def failed_over(cluster: ValkeyCluster, node: ClusterNode, _slot: int) -> None:
    """Let the replica take over, as for an upgrade."""
    cluster.replica_of(node).cluster("FAILOVER")
    await cluster.failed_over(node)


async def moved(cluster: ValkeyCluster, node: ClusterNode, slot: int) -> None:
    """Move a slot to another shard key by key, and back."""
    for to in (another(cluster, node), node):
        await asyncio.to_thread(move_slot, cluster, slot, to)
        await asyncio.sleep(0.3)


async def moved_atomically(cluster: ValkeyCluster, node: ClusterNode, slot: int) -> None:
    """Move a slot to another shard as a whole, and back."""
    for to in (another(cluster, node), node):
        await move_slot_atomically(cluster, slot, to)
        await asyncio.sleep(0.3)


def another(cluster: ValkeyCluster, node: ClusterNode) -> ClusterNode:
    """Return another primary."""
    return next(one for one in cluster.current_primaries() if one is not node)


async def until(condition: Any, seconds: float = 90) -> None:
    """Await what the service does by itself."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def stored(url: str, topics: list[str]) -> Counter[bytes]:
    """Count each event in the streams."""
    client = connect(url)
    await open_client(client)
    found: Counter[bytes] = Counter()
    for topic in topics:
        entries: Any = await on(client, topic).xrange(topic)
        found.update(fields[b"data"] for _, fields in entries)
    await client.aclose()
    return found


@pytest.mark.parametrize("fault", [shard_killed, killed, frozen, failed_over, moved, moved_atomically])
async def test_a_fault_of_one_shard_loses_and_doubles_nothing(
    fault: Any, cluster: ValkeyCluster, tmp_path: Path
) -> None:
    """And spools its own topics only, changes the route at most three times, and ends with an empty spool."""
    project = next(projects)
    topics = [f"urn:smn:local:p{project}:topic{number}" for number in range(12)]
    slot = key_slot(topics[0].encode())
    node = cluster.owner(slot)
    shard = {f"{HOST}:{one.port}" for one in (node, cluster.replica_of(node))}
    others = [topic for topic in topics if cluster.owner(key_slot(topic.encode())) is not node]
    loads = [Load(cluster.url, tmp_path / "all", topics, 0), Load(cluster.url, tmp_path / "others", others, 1 << 32)]
    with structlog.testing.capture_logs() as logs:
        for load in loads:
            await load.delivery.open()
        sending = [asyncio.create_task(load.run()) for load in loads]
        with loads[1].disk_refuses():
            await asyncio.sleep(0.5)
            await fault(cluster, node, slot)
            await until(lambda: loads[0].delivery.route == "redis")
            await asyncio.sleep(0.5)
            for one in sending:
                one.cancel()
            await asyncio.wait(sending)
            for one in sending:
                assert one.cancelled(), one.exception()
        await until(lambda: not loads[0].delivery.spool.events)
        for load in loads:
            await load.delivery.close()
    await cluster.until_healthy()
    found = await stored(cluster.url, topics)
    for load in loads:
        assert load.acknowledged
        assert load.acknowledged - found.keys() == set()
    assert [data for data, count in found.items() if count > 1] == []
    assert len(changes(logs, shard)) <= 3 * len(loads)
    # A busy machine may let any primary wait for longer than a callback does.
    assert not loads[1].refused or changes(logs) != changes(logs, shard)


def changes(logs: list[Any], shard: set[str] | None = None) -> list[Any]:
    """Return the changes of a route, of one shard or of all."""
    return [log for log in logs if log["event"] in CHANGES and (shard is None or log["node"] in shard)]

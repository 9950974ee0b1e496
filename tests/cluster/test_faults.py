"""A shard breaks, fails over, or hands a slot on: nothing is missing or doubled, and the others do not notice."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from clusters import ValkeyCluster

from receiver.delivery.delivery import Delivery
from receiver.events import Entry
from receiver.redis_client import connect, on, open_client
from receiver.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from clusters import ClusterNode

#: Of several slots and all shards.
TOPICS = [f"urn:smn:local:p:topic{number}" for number in range(12)]
BROKEN = TOPICS[0]
#: Events in a callback, and seconds between two callbacks.
EVENTS, PAUSE = 20, 0.005


class Load:
    """Callbacks of one service to some topics, each event numbered."""

    def __init__(self, url: str, folder: Path, topics: list[str], first: int) -> None:
        """``run`` sends them. ``first`` is the number of the first event."""
        self.topics = topics
        settings = Settings(data_dir=folder, publish_timeout=1.0)
        self.delivery = Delivery(settings, url, structlog.get_logger("load"))
        self.acknowledged: set[bytes] = set()
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
        await self.delivery.store(entries, 1000)
        self.acknowledged |= {entry.data for entry in entries}


@asynccontextmanager
async def refusing_disk(load: Load) -> AsyncIterator[None]:
    """Let a service's spool refuse every event: none of them may go there."""
    file = load.delivery.spool.file
    assert file is not None
    with closing(sqlite3.connect(file.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def kill(cluster: ValkeyCluster, node: ClusterNode) -> None:
    """End it, and start it again: its data is on its disk."""
    node.kill()
    await asyncio.sleep(0.5)
    cluster.nodes[cluster.nodes.index(node)] = await asyncio.to_thread(node.again)


async def freeze(_: ValkeyCluster, node: ClusterNode) -> None:
    """Let it answer nothing for a while, so that the others consider it failed."""
    node.signal(signal.SIGSTOP)
    await asyncio.sleep(2)
    node.signal(signal.SIGCONT)


async def move(cluster: ValkeyCluster, node: ClusterNode) -> None:
    """Move a slot to another shard key by key, and back."""
    for to in (another(cluster, node), node):
        await asyncio.to_thread(cluster.move, BROKEN, to)
        await asyncio.sleep(0.3)


async def move_atomically(cluster: ValkeyCluster, node: ClusterNode) -> None:
    """Move a slot to another shard as a whole, and back."""
    for to in (another(cluster, node), node):
        await asyncio.to_thread(cluster.move_atomically, BROKEN, to)
        await asyncio.sleep(0.3)


async def fail_over(cluster: ValkeyCluster, node: ClusterNode) -> None:
    """Let its replica take over, as for an upgrade."""
    await asyncio.to_thread(cluster.fail_over, node)


def another(cluster: ValkeyCluster, node: ClusterNode) -> ClusterNode:
    """Return another primary."""
    return next(one for one in cluster.primaries if one is not node)


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Await what the service does by itself."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def stored(url: str) -> Counter[bytes]:
    """Count each event in the streams."""
    client = connect(url)
    await open_client(client)
    found: Counter[bytes] = Counter()
    for topic in TOPICS:
        entries: Any = await on(client, topic).xrange(topic)
        found.update(fields[b"data"] for _, fields in entries)
    await client.aclose()
    return found


@pytest.mark.parametrize(
    ("fault", "replicas"), [(kill, 0), (freeze, 0), (move, 0), (move_atomically, 0), (fail_over, 1)]
)
async def test_a_fault_of_one_shard_loses_and_doubles_nothing(fault: Any, replicas: int, tmp_path: Path) -> None:
    """And spools its own topics only, changes the route at most three times, and ends with an empty spool."""
    cluster = await asyncio.to_thread(ValkeyCluster, tmp_path, 3, replicas)
    with structlog.testing.capture_logs() as logs:
        try:
            node = cluster.holder(BROKEN)
            others = [topic for topic in TOPICS if cluster.holder(topic) is not node]
            loads = [
                Load(cluster.url, tmp_path / "all", TOPICS, 0),
                Load(cluster.url, tmp_path / "others", others, 1 << 32),
            ]
            for load in loads:
                await load.delivery.open()
            sending = [asyncio.create_task(load.run()) for load in loads]
            async with refusing_disk(loads[1]):
                await asyncio.sleep(0.5)
                await fault(cluster, node)
                await until(lambda: loads[0].delivery.route == "redis")
                await asyncio.sleep(0.5)
                for one in sending:
                    assert not one.done(), one.exception()
                    one.cancel()
                await asyncio.wait(sending)
            await until(lambda: not loads[0].delivery.spool.events)
            for load in loads:
                await load.delivery.close()
            found = await stored(cluster.url)
        finally:
            cluster.end()
    for load in loads:
        assert load.acknowledged
        assert load.acknowledged - found.keys() == set()
    assert [data for data, count in found.items() if count > 1] == []
    assert sum(log["event"] in {"redis.away", "redis.back"} for log in logs) <= 3 * len(loads)

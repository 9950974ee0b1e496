"""Which primary takes a topic: the only one, the one that Sentinels name, or the one that has its slot of a cluster."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from redis.crc import key_slot

from receiver.delivery.group_commit import GroupCommit
from receiver.delivery.node import Node
from receiver.errors import AWAY, MOVED, WriteFailedError
from receiver.redis_cluster import Cluster, slot_of
from receiver.redis_connection import connect_primary
from receiver.redis_sentinel import Sentinels
from receiver.redis_url import Kind, parse_redis_url
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from redis.asyncio import Redis

    from receiver.delivery.group_commit import Write
    from receiver.events import Entry
    from receiver.log import Logger
    from receiver.redis_url import HostPort, RedisLocation
    from receiver.settings import Settings

    Commit = Callable[[Write, str], GroupCommit]
    #: Entries, and the node that takes them; None while no primary is known to have their slot.
    Part = tuple[Node | None, list[Entry]]

#: Names that are tried to find a key in a slot of each node: a node with one slot in a hundred is found at the 100th.
_MAX_PROBE_NAMES: Final = 20_000


class Topology(ABC):
    """The primaries, each with a node of its own. ``changed`` is called when one has come back or taken over."""

    def __init__(self, settings: Settings, changed: Callable[[], None], logger: Logger, group_commit: Commit) -> None:
        self._settings = settings
        self._changed = changed
        self._logger = logger
        self._group_commit = group_commit

    @property
    @abstractmethod
    def nodes(self) -> Collection[Node]:
        """The primaries that take events now."""

    @property
    def takes_writes(self) -> bool:
        """Whether every topic has a primary that takes writes."""
        return all(node.takes_writes for node in self.nodes)

    @abstractmethod
    def split(self, entries: list[Entry]) -> Sequence[Part]:
        """Return the entries by node, in their order."""

    async def drain(self, entries: list[Entry], *, follow: bool = True) -> dict[str, WriteFailedError]:
        """Publish entries that no callback waits for. Return the topics that were not published, each with the reason.

        ``follow``: publish those of a slot that has moved once more. Raises WriteFailedError if no primary takes any.
        """
        parts = self.split(entries)
        results = await asyncio.gather(*(_drain_part(node, part) for node, part in parts))
        failed: dict[str, WriteFailedError] = {}
        for result, (_, part) in zip(results, parts, strict=True):
            if isinstance(result, WriteFailedError):
                if not any(node.takes_writes for node in self.nodes):
                    raise result
                failed |= dict.fromkeys((entry.topic for entry in part), result)
            else:
                failed |= result
        moved = {topic for topic, error in failed.items() if error.reason == MOVED} if follow else ()
        if moved:
            failed = {topic: error for topic, error in failed.items() if topic not in moved}
            failed |= await self.drain([entry for entry in entries if entry.topic in moved], follow=False)
        return failed

    async def open(self) -> None:
        """Probe the primaries, and start. The start succeeds while they are away."""
        await asyncio.gather(*(node.probe() for node in self.nodes))

    async def finish(self) -> None:
        """Make handed-in events safe, and take no more."""
        await asyncio.gather(*(node.finish() for node in self.nodes))

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(node.close() for node in self.nodes))

    def _node(self, name: str, client: Redis, logger: Logger, *, moves: bool = False) -> Node:
        return Node(
            name,
            client,
            self._settings,
            self._on_node_change,
            logger,
            group_commit=self._group_commit,
            moves=moves,
        )

    def _on_node_change(self, error: WriteFailedError | None) -> None:
        if error is None:
            self._changed()


def topology(
    redis_url: str,
    settings: Settings,
    changed: Callable[[], None],
    logger: Logger,
    group_commit: Commit = GroupCommit,
) -> Topology:
    """Return the topology of a Redis URL."""
    location = parse_redis_url(redis_url)
    if location.kind is Kind.CLUSTER:
        return ManyNodes(location, settings, changed, logger, group_commit)
    return OneNode(location, settings, changed, logger, group_commit)


class OneNode(Topology):
    """One primary for all topics. Behind Sentinels its connections ask them where it is."""

    def __init__(
        self,
        location: RedisLocation,
        settings: Settings,
        changed: Callable[[], None],
        logger: Logger,
        group_commit: Commit,
    ) -> None:
        super().__init__(settings, changed, logger, group_commit)
        self._service = location.service
        self._sentinels = Sentinels(location) if location.kind is Kind.SENTINEL else None
        moves = self._sentinels is not None
        self._only = self._node(location.service or "redis", connect_primary(location), logger, moves=moves)
        self._listening: asyncio.Task[None] | None = None

    @property
    def nodes(self) -> Collection[Node]:
        """The primary."""
        return (self._only,)

    def split(self, entries: list[Entry]) -> Sequence[Part]:
        """Return all entries for the primary."""
        return ((self._only, entries),)

    async def open(self) -> None:
        """Probe the primary, and start."""
        self._only.start()
        if self._sentinels is not None:
            listening = self._sentinels.announce(self._service, self._on_fail_over)
            self._listening = asyncio.create_task(listening, name="listen to Sentinels")
        await super().open()

    async def close(self) -> None:
        """Close all connections."""
        await cancel_and_wait(self._listening)
        if self._sentinels is not None:
            await self._sentinels.aclose()
        await super().close()

    def _on_fail_over(self) -> None:
        """Write nothing more to a primary that is about to be replaced."""
        self._only.breaker.trip(WriteFailedError("failover", "the Sentinels replace the primary"))


class ManyNodes(Topology):
    """The primaries of a cluster. Nodes come and go as slots move."""

    def __init__(
        self,
        location: RedisLocation,
        settings: Settings,
        changed: Callable[[], None],
        logger: Logger,
        group_commit: Commit,
    ) -> None:
        super().__init__(settings, changed, logger, group_commit)
        self._cluster = Cluster(location, changed=self._follow, settled=lambda: self.takes_writes)
        self._nodes: dict[HostPort, Node] = {}
        self._covered = False
        self._names: list[str] = []
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def nodes(self) -> Collection[Node]:
        """The primaries that have slots."""
        return self._nodes.values()

    @property
    def takes_writes(self) -> bool:
        """Whether every slot has a primary that takes writes."""
        return self._covered and super().takes_writes

    def split(self, entries: list[Entry]) -> Sequence[Part]:
        """Return the entries by the primary that has their slot."""
        slots, nodes = self._cluster.slots, self._nodes
        parts: dict[Node | None, list[Entry]] = {}
        topic: str | None = None
        part: list[Entry] = []
        for entry in entries:
            if entry.topic != topic:
                topic = entry.topic
                address = slots[slot_of(topic)]
                part = parts.setdefault(None if address is None else nodes[address], [])
            part.append(entry)
        return list(parts.items())

    async def open(self) -> None:
        """Learn the map of slots, probe the primaries, and start."""
        await self._cluster.open()
        await super().open()

    async def close(self) -> None:
        """Close all connections."""
        await self._cluster.aclose()  # first: the map brings no other nodes from now on
        await asyncio.gather(*map(_retire, self._nodes.values()), *self._retiring)

    def _follow(self) -> None:
        """Have a node for each primary, and none for a server that has lost its slots."""
        held = set(self._cluster.slots)
        self._covered = None not in held
        primaries = {address for address in held if address is not None}
        for address in primaries - self._nodes.keys():
            name = f"{address[0]}:{address[1]}"
            node = self._node(name, self._cluster.new_client(address), self._logger.bind(node=name))
            self._nodes[address] = node
            node.start()
        for address in self._nodes.keys() - primaries:
            retiring = asyncio.create_task(_retire(self._nodes.pop(address)), name="retire node")
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        names = sorted(node.name for node in self._nodes.values())
        if names != self._names:
            self._names = names
            self._logger.info("cluster.primaries", primaries=names, covered=self._covered)
        self._give_probe_keys()
        self._changed()

    def _on_node_change(self, error: WriteFailedError | None) -> None:
        self._cluster.hurry()
        super()._on_node_change(error)

    def _give_probe_keys(self) -> None:
        """Find each node a key in one of its slots: others refuse the write of a probe."""
        slots = self._cluster.slots
        left = {address for address, node in self._nodes.items() if slots[key_slot(node.probe_key)] != address}
        for number in range(_MAX_PROBE_NAMES):
            if not left:
                break
            key = b"receiver:probe:%d" % number
            owner = slots[key_slot(key)]
            if owner is not None and owner in left:
                self._nodes[owner].probe_key = key
                left.remove(owner)


async def _drain_part(node: Node | None, part: list[Entry]) -> Mapping[str, WriteFailedError] | WriteFailedError:
    """Return the topics that refuse, or why the whole primary does."""
    if node is None:
        return WriteFailedError(AWAY, "no primary of the cluster is known to have the slot")
    if not node.takes_writes:
        return _away(f"{node.name} is away", node.breaker.error)
    try:
        return await node.drain(part)
    except WriteFailedError as error:
        node.breaker.trip(error)
        return _away(str(error), error)


def _away(message: str, why: WriteFailedError | None) -> WriteFailedError:
    """Return the error of entries whose primary takes no writes, with the reason as its cause."""
    failed = WriteFailedError(AWAY, message)
    failed.__cause__ = why
    return failed


async def _retire(node: Node) -> None:
    await node.finish()
    await node.close()

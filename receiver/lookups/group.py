"""The consumer group of the lookups on the event streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from receiver.lookups.scripts import script
from receiver.routing import LOOKUPS_GROUP
from receiver.streams.consumer_groups import create_group

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from redis.asyncio import Redis

    from receiver.streams.paging import StreamEntry

#: The group's name on every event stream.
GROUP: Final = LOOKUPS_GROUP

#: A topic, and entries of its stream.
Batch = tuple[str, "list[StreamEntry]"]


class Group:
    """One consumer of the group: reads, claims, acknowledges. Raises the errors of redis-py."""

    def __init__(self, redis: Redis, consumer: str) -> None:
        """``consumer`` is unique among the running consumers; after a restart it is best the same."""
        self._redis = redis
        self._consumer = consumer
        self._reap = script(redis, "reap", on_records=False)
        self._joined: set[str] = set()

    async def join(self, topics: Iterable[str]) -> None:
        """Create the group where it is missing, from the first entry on."""
        for topic in set(topics) - self._joined:
            await create_group(self._redis, topic, GROUP)
            self._joined.add(topic)

    def forget(self) -> None:
        """Make ``join`` check every stream again: Redis may have been flushed, or replaced."""
        self._joined.clear()

    async def unread(self, topics: Collection[str], count: int, block_ms: int) -> list[Batch]:
        """Return entries that no consumer has read, up to ``count`` of each stream. Wait for the first one."""
        return await self._read(dict.fromkeys(topics, ">"), count, block_ms)

    async def pending(self, after: dict[str, bytes], count: int) -> list[Batch]:
        """Return entries that this consumer has read and not acknowledged, after the given id of each stream."""
        return await self._read(after, count, None)

    async def claim(self, topic: str, idle_ms: int, start: bytes, count: int) -> tuple[bytes, list[StreamEntry]]:
        """Take over entries that their consumer has not acknowledged for ``idle_ms``.

        Return the start of the next call, and the entries. The start is ``0-0`` after the last entry.
        """
        answer = await self._redis.xautoclaim(topic, GROUP, self._consumer, idle_ms, start, count)
        return answer[0], [(entry_id, fields or {}) for entry_id, fields in answer[1]]

    async def acknowledge(self, topic: str, entries: Iterable[StreamEntry]) -> None:
        """Acknowledge entries that were applied, or that never can be."""
        ids = [entry_id for entry_id, _ in entries]
        if ids:
            await self._redis.xack(topic, GROUP, *ids)

    async def reap(self, topic: str, idle_ms: int) -> int:
        """Delete consumers of dead processes without pending entries. Return how many."""
        return int(await self._reap([topic], [GROUP, self._consumer, idle_ms]))

    async def _read(self, after: dict[Any, Any], count: int, block_ms: int | None) -> list[Batch]:
        answer: Any = await self._redis.xreadgroup(GROUP, self._consumer, after, count=count, block=block_ms)
        return [(topic.decode(), entries) for topic, entries in answer or ()]

"""The consumer group of the lookups on the event streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from receiver.lookups.scripts import script
from receiver.routing import LOOKUPS_GROUP

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from redis.asyncio import Redis

#: The group's name on every event stream.
GROUP: Final = LOOKUPS_GROUP

#: An entry: its id, and its fields. A trimmed entry that was still pending has no fields.
StreamEntry = tuple[bytes, dict[bytes, bytes]]
#: Entries of one stream.
Batch = tuple[str, list[StreamEntry]]


class Group:
    """One consumer of the group: reads, takes over, acknowledges. Errors are those of redis-py."""

    def __init__(self, redis: Redis, consumer: str) -> None:
        """Keep the client; ``consumer`` is unique among those that run, best the same after a restart."""
        self._redis = redis
        self._consumer = consumer
        self._reap = script(redis, "reap", on_records=False)
        self._joined: set[str] = set()

    async def join(self, topics: Iterable[str]) -> None:
        """Create the group where it is missing, from the first entry on, so that no early event is missed."""
        for topic in set(topics) - self._joined:
            try:
                await self._redis.xgroup_create(topic, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
            self._joined.add(topic)

    def forget(self) -> None:
        """Make ``join`` look at every stream again: Redis may have been flushed, or be another one."""
        self._joined.clear()

    async def new(self, topics: Collection[str], count: int, block_ms: int) -> list[Batch]:
        """Return entries that nobody has read, up to ``count`` of each stream; wait for the first one."""
        return await self._read(dict.fromkeys(topics, ">"), count, block_ms)

    async def mine(self, after: dict[str, bytes], count: int) -> list[Batch]:
        """Return entries that this consumer has read and not acknowledged, after an id of each stream."""
        return await self._read(after, count, None)

    async def claim(self, topic: str, idle_ms: int, start: bytes, count: int) -> tuple[bytes, list[StreamEntry]]:
        """Take over entries that their consumer has not acknowledged for ``idle_ms``; return where to go on.

        The start of the next call is ``0-0`` when all have been seen.
        """
        answer = await self._redis.xautoclaim(topic, GROUP, self._consumer, idle_ms, start, count)
        return answer[0], [(entry_id, fields or {}) for entry_id, fields in answer[1]]

    async def acknowledge(self, topic: str, entries: Iterable[StreamEntry]) -> None:
        """Acknowledge entries: they have been applied, or never can be."""
        ids = [entry_id for entry_id, _ in entries]
        if ids:
            await self._redis.xack(topic, GROUP, *ids)

    async def reap(self, topic: str, idle_ms: int) -> int:
        """Delete consumers of dead processes that have nothing pending; return how many."""
        return int(await self._reap([topic], [GROUP, self._consumer, idle_ms]))

    async def _read(self, after: dict[Any, Any], count: int, block_ms: int | None) -> list[Batch]:
        answer: Any = await self._redis.xreadgroup(GROUP, self._consumer, after, count=count, block=block_ms)
        return [(topic.decode(), entries) for topic, entries in answer or ()]

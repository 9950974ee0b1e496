"""The consumer group of the lookups on the event streams."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from receiver.lookups.scripts import script
from receiver.redis_client import on
from receiver.redis_cluster import Cluster
from receiver.routing import LOOKUPS_GROUP
from receiver.streams.consumer_groups import create_group

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from redis.asyncio import Redis

    from receiver.redis_client import Client
    from receiver.streams.paging import StreamEntry

#: The group's name on every event stream.
GROUP: Final = LOOKUPS_GROUP

#: A topic, and entries of its stream.
Batch = tuple[str, "list[StreamEntry]"]
#: What was read, and the streams that could not be read.
Reading = tuple[list[Batch], dict[str, RedisError]]
#: Seconds between two reads of a cluster without a new entry.
_POLL: Final = 0.1


class Group:
    """One consumer of the group: reads, claims, acknowledges. Raises the errors of redis-py."""

    def __init__(self, redis: Client, consumer: str) -> None:
        """``consumer`` is unique among the running consumers; after a restart it is best the same."""
        self._redis = redis
        self._consumer = consumer
        self._reap = script(redis, "reap", on_records=False)
        self._joined: set[str] = set()

    async def join(self, topic: str) -> None:
        """Create the group where it is missing, from the first entry on."""
        if topic not in self._joined:
            await create_group(self._redis, topic, GROUP)
            self._joined.add(topic)

    def forget(self, topic: str) -> None:
        """Make ``join`` check a stream again: Redis may have been flushed, or replaced."""
        self._joined.discard(topic)

    async def unread(self, topics: Collection[str], count: int, block_ms: int) -> Reading:
        """Return entries that no consumer has read, up to ``count`` of each stream. Wait for the first one.

        The topics of all calls with more than one are those of one primary.
        """
        return await self._read(dict.fromkeys(topics, ">"), count, block_ms)

    async def pending(self, after: dict[str, bytes], count: int) -> Reading:
        """Return entries that this consumer has read and not acknowledged, after the given id of each stream."""
        return await self._read(after, count, None)

    async def claim(self, topic: str, idle_ms: int, start: bytes, count: int) -> tuple[bytes, list[StreamEntry]]:
        """Take over entries that their consumer has not acknowledged for ``idle_ms``.

        Return the start of the next call, and the entries. The start is ``0-0`` after the last entry.
        """
        answer = await on(self._redis, topic).xautoclaim(topic, GROUP, self._consumer, idle_ms, start, count)
        return answer[0], [(entry_id, fields or {}) for entry_id, fields in answer[1]]

    async def acknowledge(self, topic: str, entries: Iterable[StreamEntry]) -> None:
        """Acknowledge entries that were applied, or that never can be."""
        ids = [entry_id for entry_id, _ in entries]
        if ids:
            await on(self._redis, topic).xack(topic, GROUP, *ids)

    async def reap(self, topic: str, idle_ms: int) -> int:
        """Delete consumers of dead processes without pending entries. Return how many."""
        return int(await self._reap([topic], [GROUP, self._consumer, idle_ms]))

    async def _read(self, after: dict[Any, Any], count: int, block_ms: int | None) -> Reading:
        redis = on(self._redis, next(iter(after)))
        if isinstance(self._redis, Cluster):
            return await self._read_each(redis, after, count, block_ms)
        answer: Any = await redis.xreadgroup(GROUP, self._consumer, after, count=count, block=block_ms)
        return _batches(answer), {}

    async def _read_each(self, redis: Redis, after: dict[Any, Any], count: int, block_ms: int | None) -> Reading:
        """Read stream by stream: one command cannot read streams of several slots, even of one primary."""
        async with redis.pipeline(transaction=False) as pipe:
            for topic, start in after.items():
                pipe.xreadgroup(GROUP, self._consumer, {topic: start}, count=count)
            answers = dict(zip(after, await pipe.execute(raise_on_error=False), strict=True))
        refused = {topic: answer for topic, answer in answers.items() if isinstance(answer, RedisError)}
        batches = [batch for topic, answer in answers.items() if topic not in refused for batch in _batches(answer)]
        if block_ms and not batches:
            await asyncio.sleep(min(block_ms / 1000, _POLL))
        return batches, refused


def _batches(answer: Any) -> list[Batch]:  # noqa: ANN401 what Redis answers
    return [(topic.decode(), entries) for topic, entries in answer or ()]

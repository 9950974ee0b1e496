"""What the indexers have done, counted in Redis: they run in processes of their own, which nobody scrapes.

``lookups:counts`` is a hash, name to count: the sum over all indexers that have ever run on this Redis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

_KEY: Final = "lookups:counts"
#: ``applied`` to the index, ``skipped`` (about no message, or trimmed before they were read), ``undecodable``, and
#: ``claimed``: also one of the three, after having been taken over from an indexer that died.
COUNTED: Final = ("applied", "skipped", "undecodable", "claimed")


class IndexCounts:
    """The counts of one process, added to those of all. Errors are those of redis-py."""

    def __init__(self, redis: Redis) -> None:
        """Keep the client; ``decode_responses`` must be off."""
        self._redis = redis
        self._added: dict[str, int] = {}

    async def add(self, totals: Mapping[str, int]) -> None:
        """Add what has happened since the last call. ``totals`` of this process: after an error, nothing is lost."""
        new = {name: total - self._added.get(name, 0) for name, total in totals.items()}
        if not any(new.values()):
            return
        async with self._redis.pipeline(transaction=True) as pipe:
            for name, count in new.items():
                pipe.hincrby(_KEY, name, count)
            await pipe.execute()
        self._added = dict(totals)

    async def all(self) -> dict[str, int]:
        """Return the counts of all indexers."""
        stored = await self._redis.hmget(_KEY, COUNTED)
        return {name: int(count or 0) for name, count in zip(COUNTED, stored, strict=True)}

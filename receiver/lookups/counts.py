"""What the indexers have done, counted in Redis: nothing scrapes the processes in which they run.

The hash ``lookups:counts`` has a count for each name: the sum over all indexers that have ever run on this Redis.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from receiver.redis_client import Script, on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.log import Logger
    from receiver.redis_client import Client

_KEY: Final = "lookups:counts"
#: All counts or none: names and increments.
_ADD: Final = "for i = 1, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end"
#: ``applied`` to the index, ``skipped`` (about no message, or trimmed before they were read), ``undecodable``.
#: ``claimed`` entries also count as one of the three: they were taken over from an indexer that died.
COUNTED: Final = ("applied", "skipped", "undecodable", "claimed")
#: Seconds between two reads.
_FOLLOW_EVERY: Final = 2.0
#: Seconds that Redis may take to answer.
_REDIS_TIMEOUT: Final = 2.0


class IndexCounts:
    """The counts of one process, added to those of all. Raises the errors of redis-py."""

    def __init__(self, redis: Client) -> None:
        """``decode_responses`` of the client must be off."""
        self._redis = redis
        self._add = Script(redis, _ADD)
        self._added: dict[str, int] = {}
        #: The counts of all indexers, as ``follow`` has read them last.
        self.latest: dict[str, int] = {}

    async def add(self, totals: Mapping[str, int]) -> None:
        """Add what has happened since the last call. ``totals`` of this process: after an error, nothing is lost."""
        new = {name: total - self._added.get(name, 0) for name, total in totals.items()}
        if not any(new.values()):
            return
        await self._add([_KEY], [part for count in new.items() for part in count])
        self._added = dict(totals)

    async def all(self) -> dict[str, int]:
        """Return the counts of all indexers."""
        stored = await on(self._redis, _KEY).hmget(_KEY, COUNTED)
        return {name: int(count or 0) for name, count in zip(COUNTED, stored, strict=True)}

    async def follow(self, logger: Logger) -> None:
        """Keep ``latest`` up to date until cancelled. While Redis is away it keeps its last values."""
        while True:
            try:
                async with asyncio.timeout(_REDIS_TIMEOUT):
                    self.latest = await self.all()
            except (RedisError, OSError, ValueError) as error:  # ValueError: another program has written to the hash
                logger.debug("index.counts_unknown", error=str(error))
            await asyncio.sleep(_FOLLOW_EVERY)

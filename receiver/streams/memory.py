"""Measures the memory of Redis and of its longest streams."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import NoPermissionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from redis.asyncio import Redis

    from receiver.log import Logger
    from receiver.streams.gauges import Memory

T = TypeVar("T")
#: Streams of a Redis that are measured in a round: a bounded number, however many topics there are.
LONGEST: Final = 10


class RedisMemory:
    """Measures what an access list allows to measure."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._forbidden: set[str] = set()

    async def measure(self, redis: Redis, entries: Mapping[str, int], memory: Memory) -> None:
        """Add what a Redis uses and may use, and what the longest of its streams take, given their entries.

        Raises the errors of redis-py.
        """
        info: dict[str, Any] | None = await self._allowed("INFO", redis.info("memory"))
        if info is not None:
            memory.nodes[_address(redis)] = info["used_memory"], info["maxmemory"]
        for topic in heapq.nlargest(LONGEST, entries, key=lambda topic: entries[topic]):
            size = await self._allowed("MEMORY USAGE", redis.memory_usage(topic))
            if size is not None:
                memory.streams[topic] = size

    async def _allowed(self, command: str, answer: Awaitable[T]) -> T | None:
        """Return Redis' answer; None if the user may not ask, which is logged once."""
        try:
            return await answer
        except NoPermissionError as error:
            if command not in self._forbidden:
                self._forbidden.add(command)
                self._logger.warning("redis.memory_unknown", command=command, error=str(error))
            return None


def _address(redis: Redis) -> str:
    """Return what names a Redis: host and port, the path of its socket, or the service of its Sentinels."""
    pool = redis.connection_pool
    options = pool.connection_kwargs
    place = getattr(pool, "service_name", None) or options.get("path")
    return str(place or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")

"""Reads several streams as one, in the order of their entries, and over restarts of Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from receiver.cli.connections import REDIS_TIMEOUT, RedisAwayError, connected

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from redis.asyncio import Redis

    from receiver.settings import Settings

#: Entries asked for at a time, of each stream.
_PAGE: Final = 500
#: Milliseconds that Redis waits for an entry before it says that there is none.
_WAIT: Final = 1000
_TRY_AGAIN: Final = 0.5

_Id = tuple[int, int]


class StreamReader:
    """Yields the entries of streams as they come."""

    def __init__(
        self,
        settings: Settings,
        topics: Callable[[Redis], Awaitable[list[str]]],
        since: float | None,
        tell: Callable[[str], None],
    ) -> None:
        """Take who knows the streams, where to begin (so many seconds ago; None: now), and who is told of outages.

        Streams are asked for again every second or so: routes change while we watch.
        """
        self._settings = settings
        self._topics = topics
        self._since = since
        self._tell = tell
        self._after: dict[bytes, bytes] = {}
        self._looked_at = 0

    async def entries(self) -> AsyncGenerator[list[bytes], None]:
        """Yield batches of the entries' ``data``, for ever.

        Raises RedisAwayError only when Redis is away at the beginning; later it waits until Redis is back and goes
        on where it was.
        """
        away = False
        while True:
            try:
                async with connected(self._settings) as client:
                    if away:
                        self._tell("Redis is back.")
                        away = False
                    while True:
                        await self._look(client)
                        yield await self._read(client)
            except RedisAwayError as error:
                if not self._after:
                    raise
                if not away:
                    self._tell(f"{error} Trying again until it is back …")
                away = True
            await asyncio.sleep(_TRY_AGAIN)

    async def _look(self, client: Redis) -> None:
        """Find out which streams there are, and where to begin with those that are new."""
        async with asyncio.timeout(REDIS_TIMEOUT):
            seconds, micro = await client.time()
            now = seconds * 1000 + micro // 1000
            if now - self._looked_at < _WAIT:
                return
            for topic in await self._topics(client):
                if topic.encode() not in self._after:
                    self._after[topic.encode()] = await self._beginning(client, topic, now)
            self._looked_at = now

    async def _beginning(self, client: Redis, topic: str, now: int) -> bytes:
        if self._looked_at:  # a route that was set since
            return b"%d-0" % self._looked_at
        if self._since is not None:
            return b"%d-0" % max(0, now - int(self._since * 1000))
        return await _last_id(client, topic)

    async def _read(self, client: Redis) -> list[bytes]:
        async with asyncio.timeout(REDIS_TIMEOUT):
            streams: Any = self._after
            answer: Any = await client.xread(streams, count=_PAGE, block=_WAIT)
        # A stream of which there may be more is known up to its last entry; what is later in others comes next time.
        known = min((_number(entries[-1][0]) for _, entries in answer if len(entries) == _PAGE), default=None)
        found: list[tuple[_Id, bytes]] = []
        for topic, entries in answer:
            for id_, fields in entries:
                if known is None or _number(id_) <= known:
                    found.append((_number(id_), fields.get(b"data", b"")))
                    self._after[topic] = id_
        return [data for _, data in sorted(found)]


async def _last_id(client: Redis, topic: str) -> bytes:
    try:
        last: bytes = (await client.xinfo_stream(topic))["last-generated-id"]
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
        return b"0-0"
    return last


def _number(id_: bytes) -> _Id:
    milliseconds, _, sequence = id_.partition(b"-")
    return int(milliseconds), int(sequence)

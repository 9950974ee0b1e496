"""Reads several streams as one, ordered by entry id, across restarts of Redis."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from receiver.cli.connections import REDIS_TIMEOUT, RedisFailedError, connected
from receiver.redis_client import by_primary, on
from receiver.redis_cluster import Cluster
from receiver.streams.entry_ids import id_parts, now_ms

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from redis.asyncio import Redis

    from receiver.redis_client import Client
    from receiver.settings import Settings
    from receiver.streams.paging import StreamEntry

#: Entries per read and stream.
_PAGE: Final = 500
#: Milliseconds for which a read blocks without a new entry.
_WAIT: Final = 1000
_RETRY_DELAY: Final = 0.5
#: Seconds between two reads of a cluster without a new entry.
_POLL: Final = 0.1


class StreamReader:
    """Yields the entries of streams as they arrive."""

    def __init__(
        self,
        settings: Settings,
        topics: Callable[[Client], Awaitable[list[str]]],
        since: float | None,
        notify: Callable[[str], None],
    ) -> None:
        """``topics`` returns the streams. It is called about once a second, because routes may change.

        ``since`` is the start in seconds before now; None starts now. ``notify`` gets a message about outages.
        """
        self._settings = settings
        self._topics = topics
        self._since = since
        self._notify = notify
        self._after: dict[str, bytes] = {}
        #: When the streams were refreshed, by Redis' clock in milliseconds, and when they will be, by our own.
        self._refreshed_at = 0
        self._refresh_at = 0.0

    async def entries(self) -> AsyncGenerator[list[bytes], None]:
        """Yield batches of the entries' ``data``, without end.

        Raises RedisFailedError if Redis is away at the start, or refuses the commands. Later it waits until Redis is
        back, a replica has taken over or a slot has moved, and continues where it stopped.
        """
        away = False
        while True:
            try:
                async with connected(self._settings) as client:
                    if away:
                        self._notify("Redis is back.")
                        away = False
                    while True:
                        await self._refresh_streams(client)
                        yield await self._read(client)
            except RedisFailedError as error:
                if not (self._after and error.passes):
                    raise
                if not away:
                    self._notify(f"{error} Retrying until it is back …")
                away = True
            await asyncio.sleep(_RETRY_DELAY)

    async def _refresh_streams(self, client: Client) -> None:
        """Add new streams, each with its start position."""
        if monotonic() < self._refresh_at:
            return
        async with asyncio.timeout(REDIS_TIMEOUT):
            topics = await self._topics(client)
            if not topics:
                return
            now = await now_ms(client, topics[0])
            for topic in topics:
                if topic not in self._after:
                    self._after[topic] = await self._start(client, topic, now)
        self._refreshed_at = now
        self._refresh_at = monotonic() + _WAIT / 1000

    async def _start(self, client: Client, topic: str, now: int) -> bytes:
        if self._refreshed_at:  # a new route, set since the last refresh
            return b"%d-0" % self._refreshed_at
        if self._since is not None:
            return b"%d-0" % max(0, now - int(self._since * 1000))
        return await _last_id(client, topic)

    async def _read(self, client: Client) -> list[bytes]:
        async with asyncio.timeout(REDIS_TIMEOUT):
            answer = await (self._read_each(client) if isinstance(client, Cluster) else self._read_all(client))
        # A full page may not be the end of its stream. Later entries of other streams wait for the next read.
        limit = min((id_parts(entries[-1][0].decode()) for _, entries in answer if len(entries) == _PAGE), default=None)
        found: list[tuple[tuple[int, int], bytes]] = []
        for topic, entries in answer:
            for id_, fields in entries:
                number = id_parts(id_.decode())
                if limit is None or number <= limit:
                    found.append((number, fields.get(b"data", b"")))
                    self._after[topic] = id_
        return [data for _, data in sorted(found)]

    async def _read_all(self, client: Redis) -> list[tuple[str, list[StreamEntry]]]:
        streams: Any = self._after
        answer: Any = await client.xread(streams, count=_PAGE, block=_WAIT)
        return [(topic.decode(), entries) for topic, entries in answer]

    async def _read_each(self, client: Cluster) -> list[tuple[str, list[StreamEntry]]]:
        """Read stream by stream: one command cannot read streams of several slots, even of one primary."""
        found: list[tuple[str, list[StreamEntry]]] = []
        for topics in by_primary(client, self._after):
            async with on(client, topics[0]).pipeline(transaction=False) as pipe:
                for topic in topics:
                    pipe.xread({topic: self._after[topic]}, count=_PAGE)
                answers: Any = await pipe.execute()
            found += [(topic.decode(), entries) for answer in answers for topic, entries in answer]
        if not found:
            await asyncio.sleep(_POLL)
        return found


async def _last_id(client: Client, topic: str) -> bytes:
    try:
        last: bytes = (await on(client, topic).xinfo_stream(topic))["last-generated-id"]
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
        return b"0-0"
    return last

"""The index made anew from what the streams still hold."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from receiver.lookups.decoding import UndecodableError, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from redis.asyncio import Redis

    from receiver.lookups.group import StreamEntry
    from receiver.lookups.reports import Reports, Status

_PAGE = 1000


async def rebuild(redis: Redis, reports: Reports, topics: Iterable[str], progress: Callable[[int, int], object]) -> int:
    """Apply every entry of the streams again, and return how many status events there were.

    Nothing is removed first, and applying twice changes nothing: queries and indexers go on meanwhile. The
    consumer group is not touched. ``progress`` gets how many entries are done, and of how many. What comes in
    meanwhile is left to the indexer. Errors are those of redis-py; after one, begin anew.
    """
    topics = list(topics)
    total = sum([int(await redis.xlen(topic)) for topic in topics])
    done = applied = 0
    for topic in topics:
        last = await _last(redis, topic)
        start = b"-"
        while last and (page := await _page(redis, topic, start, last)):
            applied += await _apply(reports, page)
            done += len(page)
            progress(done, max(done, total))
            start = b"(" + page[-1][0]
    return applied


async def _last(redis: Redis, topic: str) -> bytes | None:
    newest: Any = await redis.xrevrange(topic, count=1)
    return newest[0][0] if newest else None


async def _page(redis: Redis, topic: str, start: bytes, last: bytes) -> list[StreamEntry]:
    page: Any = await redis.xrange(topic, min=start, max=last, count=_PAGE)
    return list(page)


async def _apply(reports: Reports, page: Iterable[StreamEntry]) -> int:
    found: dict[str, list[Status]] = defaultdict(list)
    for entry_id, fields in page:
        try:
            event = status_of(entry_id, fields)
        except UndecodableError:
            continue  # the indexer has counted it
        if event is not None:
            found[event[0]].append(event[1])
    for project_id, statuses in found.items():
        await reports.apply(project_id, statuses)
    return sum(map(len, found.values()))

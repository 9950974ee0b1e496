"""Rebuilds the index from the entries that the streams still hold."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from receiver.lookups.decoding import UndecodableError, status_of
from receiver.redis_client import on
from receiver.streams.paging import pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from receiver.lookups.reports import Reports, Status
    from receiver.redis_client import Client
    from receiver.streams.paging import StreamEntry

#: Entries in one read.
_PAGE: Final = 1000


async def rebuild(
    redis: Client, reports: Reports, topics: Iterable[str], progress: Callable[[int, int], object]
) -> int:
    """Apply every entry of the streams again. Return the number of status events.

    Nothing is removed first and applying twice has no further effect, so queries and indexers may go on meanwhile. The
    consumer group is not used. ``progress`` gets the number of entries done and the total. Entries that arrive
    meanwhile are left to the indexer. Raises the errors of redis-py; start again after one.
    """
    topics = list(topics)
    total = sum([int(await on(redis, topic).xlen(topic)) for topic in topics])
    done = applied = 0
    for topic in topics:
        async for page in pages(redis, topic, _PAGE):
            applied += await _apply(reports, page)
            done += len(page)
            progress(done, max(done, total))
    return applied


async def _apply(reports: Reports, page: Iterable[StreamEntry]) -> int:
    found: dict[str, list[Status]] = defaultdict(list)
    for entry_id, fields in page:
        try:
            event = status_of(entry_id, fields)
        except UndecodableError:
            continue  # the indexer has counted and logged it
        if event is not None:
            found[event[0]].append(event[1])
    for project_id, statuses in found.items():
        await reports.apply(project_id, statuses)
    return sum(map(len, found.values()))

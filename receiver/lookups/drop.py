"""Removes the report index from Redis: its consumer group on every stream, and its keys.

A group without readers holds back the trimming of its stream until the hard cap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.lookups.group import GROUP
from receiver.lookups.indexed_projects import KEY
from receiver.lookups.scripts import project_key
from receiver.redis_client import on, primaries
from receiver.streams.backlog import backlogs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from receiver.redis_client import Client
    from receiver.streams.backlog import Backlog

#: Keys that Redis looks at in one step, which takes less than a millisecond.
_STEP: Final = 1000
_STREAMS: Final = "urn:smn:*"
#: Milliseconds: a running indexer reads each stream every few seconds at least.
ACTIVE_MS: Final = 10_000


async def index_groups(client: Client) -> list[Backlog]:
    """Return the group of the index on every stream of every primary that has it, former topics included.

    Raises the errors of redis-py.
    """
    found: list[Backlog] = []
    for redis in primaries(client):
        async for key in redis.scan_iter(match=_STREAMS, count=_STEP, _type="stream"):
            found += [one for one in await backlogs(client, key.decode()) if one.group == GROUP]
    return found


def active_consumer(group: Backlog) -> str | None:
    """Return a consumer that has read the group a moment ago: an indexer that runs creates the group again."""
    return next((one.consumer for one in group.consumers if one.idle_ms < ACTIVE_MS), None)


async def destroy_group(client: Client, topic: str) -> None:
    """Destroy the group of the index on a stream. Raises the errors of redis-py."""
    await on(client, topic).xgroup_destroy(topic, GROUP)


async def delete_keys(client: Client) -> AsyncIterator[int]:
    """Delete the keys of the index, and yield how many each step has deleted. Raises the errors of redis-py."""
    every_project = project_key("*").removesuffix("}")
    for redis in primaries(client):
        cursor = -1
        while cursor:
            cursor, keys = await redis.scan(max(0, cursor), match=every_project, count=_STEP)
            async with redis.pipeline(transaction=False) as pipe:
                for key in keys:  # one by one: keys of several projects are in several slots
                    pipe.unlink(key)
                yield sum(await pipe.execute()) if keys else 0
    yield await on(client, KEY).unlink(KEY)

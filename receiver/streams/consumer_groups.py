"""The consumer groups of streams: creates the configured groups, and measures the backlog of every group.

The name of a group is bytes of its creator's choice. Commands use the bytes; metrics escape those that are not UTF-8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from receiver.redis_client import on
from receiver.streams.gauges import GroupFigures, TopicFigures

if TYPE_CHECKING:
    from receiver.log import Logger
    from receiver.redis_client import Client


async def create_group(client: Client, topic: str, name: str) -> bool:
    """Create a group that begins with the first entry, so that it misses none. Return whether it was new.

    Creates the stream as well. Raises the errors of redis-py.
    """
    try:
        await on(client, topic).xgroup_create(topic, name, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
        return False
    return True


class ConsumerGroups:
    """The groups of topics. Raises the errors of redis-py; a ResponseError concerns the topic alone."""

    def __init__(self, client: Client, logger: Logger) -> None:
        self._client = client
        self._logger = logger

    async def reconcile(self, topic: str, wanted: tuple[str, ...]) -> TopicFigures:
        """Create missing groups, and return the backlog of each group that existed before."""
        groups = await self._groups(topic)
        for missing in wanted:
            if missing.encode() not in groups and await create_group(self._client, topic, missing):
                self._logger.info("group.created", topic=topic, group=missing)
        entries = await on(self._client, topic).xlen(topic)
        return TopicFigures(
            entries,
            {
                name.decode(errors="backslashreplace"): GroupFigures(
                    group.get("lag"), group["pending"], await self._oldest_age(topic, name, group)
                )
                for name, group in groups.items()
            },
        )

    async def _groups(self, topic: str) -> dict[bytes, dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = await on(self._client, topic).xinfo_groups(topic)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return {}
        return {group["name"]: group for group in found}

    async def _oldest_age(self, topic: str, name: bytes, group: dict[str, Any]) -> float:
        """Return the age in seconds of the oldest entry that a group has not acknowledged, 0 if there is none."""
        redis = on(self._client, topic)
        if group["pending"]:
            oldest = (await redis.xpending(topic, name))["min"]
        else:
            start = b"(" + group["last-delivered-id"]
            unread = await redis.xrange(topic, start.decode(), "+", count=1)
            oldest = unread[0][0] if unread else None
        if oldest is None:
            return 0.0
        seconds, microseconds = await redis.time()  # Redis' clock made the id; our own may be days off
        return max(0.0, seconds + microseconds / 1e6 - int(bytes(oldest).partition(b"-")[0]) / 1000)

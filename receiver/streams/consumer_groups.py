"""The consumer groups of streams: those that must exist are created, and how far behind each one is becomes a figure.

A group's name is bytes that others have chosen: Redis is asked with the bytes, and what is not UTF-8 is escaped in the
label of a figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from receiver.streams.gauges import GroupFigures, TopicFigures

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from receiver.log import Logger


class ConsumerGroups:
    """Looks after the groups of topics. Errors are those of redis-py; ResponseError is about the topic at hand."""

    def __init__(self, client: Redis, logger: Logger) -> None:
        """Keep the collaborators."""
        self._client = client
        self._logger = logger

    async def reconcile(self, topic: str, wanted: tuple[str, ...]) -> TopicFigures:
        """Create missing groups at 0, so that they miss nothing, and return how far behind each group is."""
        groups = await self._groups(topic)
        for missing in wanted:
            if missing.encode() not in groups:
                await self._create(topic, missing)
        entries = await self._client.xlen(topic)
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
            found: list[dict[str, Any]] = await self._client.xinfo_groups(topic)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return {}
        return {group["name"]: group for group in found}

    async def _create(self, topic: str, name: str) -> None:
        try:
            await self._client.xgroup_create(topic, name, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        else:
            self._logger.info("group.created", topic=topic, group=name)

    async def _oldest_age(self, topic: str, name: bytes, group: dict[str, Any]) -> float:
        """Return the age in seconds of the oldest entry that a group has not acknowledged; 0 when there is none."""
        if group["pending"]:
            oldest = (await self._client.xpending(topic, name))["min"]
        else:
            start = b"(" + group["last-delivered-id"]
            unread = await self._client.xrange(topic, start.decode(), "+", count=1)
            oldest = unread[0][0] if unread else None
        if oldest is None:
            return 0.0
        seconds, microseconds = await self._client.time()  # our clock may be days off, and Redis' has made the id
        return max(0.0, seconds + microseconds / 1e6 - int(bytes(oldest).partition(b"-")[0]) / 1000)

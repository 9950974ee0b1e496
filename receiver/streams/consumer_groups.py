"""The consumer groups of streams: creates the configured groups, and measures the backlog of every group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from receiver.redis_client import on
from receiver.streams.entry_ids import id_parts, now_ms
from receiver.streams.gauges import GroupFigures, TopicFigures
from receiver.streams.group_info import as_text, groups_of, pending_entries
from receiver.streams.stuck_entries import OldestPending

if TYPE_CHECKING:
    from receiver.log import Logger
    from receiver.redis_client import Client
    from receiver.streams.group_info import GroupInfo


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
        #: The oldest pending entry of each group, by topic and group.
        self._oldest: dict[str, dict[bytes, OldestPending]] = {}

    async def reconcile(self, topic: str, wanted: tuple[str, ...]) -> TopicFigures:
        """Create missing groups, and return the backlog of each group that existed before."""
        groups = {group.name: group for group in await groups_of(self._client, topic)}
        for missing in wanted:
            if missing.encode() not in groups and await create_group(self._client, topic, missing):
                self._logger.info("group.created", topic=topic, group=missing)
        entries = await on(self._client, topic).xlen(topic)
        figures: dict[str, GroupFigures] = {}
        oldest: dict[bytes, OldestPending] = {}
        for name, group in groups.items():
            figures[as_text(name)], pending = await self._figures(topic, group)
            if pending is not None:
                oldest[name] = pending
        self._oldest[topic] = oldest
        return TopicFigures(entries, figures)

    async def _figures(self, topic: str, group: GroupInfo) -> tuple[GroupFigures, OldestPending | None]:
        """Return the backlog of a group, and its oldest pending entry."""
        pending = await pending_entries(self._client, topic, group.name) if group.pending else []
        if not pending:
            start = f"({group.last_delivered_id}"
            unread: Any = await on(self._client, topic).xrange(topic, start, "+", count=1)
            age = _age(unread[0][0].decode(), await self._now(topic)) if unread else 0.0
            return GroupFigures(group.lag, group.pending, age), None
        [entry] = pending
        now = await self._now(topic)
        before = self._oldest.get(topic, {}).get(group.name)
        oldest = OldestPending.next(before, entry.entry_id, _acknowledged(group), now)
        stuck = oldest.stuck_seconds(now, everything_read=group.lag == 0)
        return GroupFigures(group.lag, group.pending, _age(entry.entry_id, now), entry.deliveries, stuck), oldest

    async def _now(self, topic: str) -> float:
        """Return the time of Redis' clock, which made the ids of the entries, in seconds; our own may be days off."""
        return await now_ms(self._client, topic) / 1000


def _age(entry_id: str, now: float) -> float:
    return max(0.0, now - id_parts(entry_id)[0] / 1000)


def _acknowledged(group: GroupInfo) -> object:
    """Return what changes when a group acknowledges an entry. Redis 6.2, and 7 at times, only know what it has read."""
    read = group.entries_read
    return group.last_delivered_id if read is None else read - group.pending

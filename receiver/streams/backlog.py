"""The backlog of each consumer group of a stream: unread and pending entries, consumers, and the oldest entry left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from receiver.redis_client import on
from receiver.streams.entry_ids import id_parts, now_ms
from receiver.streams.group_info import as_text, groups_of, pending_entries

if TYPE_CHECKING:
    from receiver.redis_client import Client
    from receiver.streams.group_info import GroupInfo


class Consumer(NamedTuple):
    """A consumer of a group. ``idle_ms``: since it last asked for entries or claimed some."""

    consumer: str
    pending: int
    idle_ms: int


class Oldest(NamedTuple):
    """The oldest entry that a group has not acknowledged. Without a consumer it has not been read.

    ``age_ms`` is measured by Redis' clock, ``idle_ms`` since the last delivery.
    """

    entry_id: str
    age_ms: int
    consumer: str | None = None
    idle_ms: int | None = None
    deliveries: int | None = None


class Backlog(NamedTuple):
    """A group of a topic. ``lag`` counts the entries that it has not read; Redis does not always know it."""

    topic: str
    group: str
    lag: int | None
    pending: int
    last_delivered_id: str
    oldest: Oldest | None
    consumers: tuple[Consumer, ...]


async def backlogs(client: Client, topic: str) -> list[Backlog]:
    """Return the backlog of each group of a topic. Raises the errors of redis-py."""
    return [await _backlog(client, topic, group) for group in await groups_of(client, topic)]


async def _backlog(client: Client, topic: str, group: GroupInfo) -> Backlog:
    consumers: list[dict[str, Any]] = await on(client, topic).xinfo_consumers(topic, group.name)
    return Backlog(
        topic,
        as_text(group.name),
        group.lag,
        group.pending,
        group.last_delivered_id,
        await _oldest(client, topic, group),
        tuple(Consumer(as_text(one["name"]), one["pending"], one["idle"]) for one in consumers),
    )


async def _oldest(client: Client, topic: str, group: GroupInfo) -> Oldest | None:
    now = await now_ms(client, topic)
    pending = await pending_entries(client, topic, group.name) if group.pending else []
    unread: Any = await on(client, topic).xrange(topic, f"({group.last_delivered_id}", "+", count=1)
    found = []
    if unread:
        entry_id = unread[0][0].decode()
        found.append(Oldest(entry_id, now - id_parts(entry_id)[0]))
    for one in pending:
        age = now - id_parts(one.entry_id)[0]
        found.append(Oldest(one.entry_id, age, one.consumer, one.idle_ms, one.deliveries))
    # Both: a group that was set back reads entries again that come before its pending ones.
    return min(found, key=lambda one: id_parts(one.entry_id), default=None)

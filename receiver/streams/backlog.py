"""The backlog of each consumer group of a stream: unread and pending entries, consumers, and the oldest entry left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from receiver.redis_client import on
from receiver.streams.entry_ids import id_parts, now_ms
from receiver.streams.group_info import as_text, groups_of, pending_entries

if TYPE_CHECKING:
    from receiver.redis_client import Client
    from receiver.streams.group_info import GroupInfo, PendingEntry

#: Deliveries after which an entry is rather put aside than given to another consumer.
MANY_DELIVERIES: Final = 5
#: Pending entries of a group that are looked at, from the oldest on.
_LOOKED_AT: Final = 100


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
    """A group of a topic. ``lag`` counts the entries that it has not read; Redis does not always know it.

    ``failing``: of its oldest pending entries, the one that was delivered most often, if that is often.
    """

    topic: str
    group: str
    lag: int | None
    pending: int
    last_delivered_id: str
    oldest: Oldest | None
    failing: Oldest | None
    consumers: tuple[Consumer, ...]


async def backlogs(client: Client, topic: str) -> list[Backlog]:
    """Return the backlog of each group of a topic. Raises the errors of redis-py."""
    return [await _backlog(client, topic, group) for group in await groups_of(client, topic)]


async def _backlog(client: Client, topic: str, group: GroupInfo) -> Backlog:
    now = await now_ms(client, topic)
    pending = [_pending(one, now) for one in await _first_pending(client, topic, group)]
    unread = await _first_unread(client, topic, group, now)
    failing = max(pending, key=lambda one: one.deliveries or 0, default=None)
    consumers: list[dict[str, Any]] = await on(client, topic).xinfo_consumers(topic, group.name)
    return Backlog(
        topic,
        as_text(group.name),
        group.lag,
        group.pending,
        group.last_delivered_id,
        # Both: a group that was set back reads entries again that come before its pending ones.
        min([*pending[:1], *unread], key=lambda one: id_parts(one.entry_id), default=None),
        failing if failing is not None and (failing.deliveries or 0) >= MANY_DELIVERIES else None,
        tuple(Consumer(as_text(one["name"]), one["pending"], one["idle"]) for one in consumers),
    )


async def _first_pending(client: Client, topic: str, group: GroupInfo) -> list[PendingEntry]:
    return await pending_entries(client, topic, group.name, count=_LOOKED_AT) if group.pending else []


def _pending(one: PendingEntry, now: int) -> Oldest:
    return Oldest(one.entry_id, now - id_parts(one.entry_id)[0], one.consumer, one.idle_ms, one.deliveries)


async def _first_unread(client: Client, topic: str, group: GroupInfo, now: int) -> list[Oldest]:
    found: Any = await on(client, topic).xrange(topic, f"({group.last_delivered_id}", "+", count=1)
    return [Oldest(entry_id := one[0].decode(), now - id_parts(entry_id)[0]) for one in found]

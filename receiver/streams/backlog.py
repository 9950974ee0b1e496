"""The backlog of each consumer group of a stream: unread and pending entries, consumers, and the oldest entry left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import ResponseError

from receiver.redis_client import on
from receiver.streams.entry_ids import id_parts, now_ms

if TYPE_CHECKING:
    from receiver.redis_client import Client


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


async def groups_of(client: Client, topic: str) -> list[dict[str, Any]]:
    """Return the groups of a topic as Redis describes them; none without a stream. Raises the errors of redis-py."""
    try:
        groups: list[dict[str, Any]] = await on(client, topic).xinfo_groups(topic)
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
        return []
    return groups


async def backlogs(client: Client, topic: str) -> list[Backlog]:
    """Return the backlog of each group of a topic. Raises the errors of redis-py."""
    return [await _backlog(client, topic, group) for group in await groups_of(client, topic)]


def as_text(name: bytes) -> str:
    """Return the name of a group or consumer: bytes of its creator's choice."""
    return name.decode(errors="backslashreplace")


async def _backlog(client: Client, topic: str, group: dict[str, Any]) -> Backlog:
    consumers: list[dict[str, Any]] = await on(client, topic).xinfo_consumers(topic, group["name"])
    return Backlog(
        topic,
        as_text(group["name"]),
        group.get("lag"),
        group["pending"],
        group["last-delivered-id"].decode(),
        await _oldest(client, topic, group),
        tuple(Consumer(as_text(one["name"]), one["pending"], one["idle"]) for one in consumers),
    )


async def _oldest(client: Client, topic: str, group: dict[str, Any]) -> Oldest | None:
    now = await now_ms(client, topic)
    pending: Any = await on(client, topic).xpending_range(topic, group["name"], "-", "+", 1) if group["pending"] else []
    unread: Any = await on(client, topic).xrange(topic, f"({group['last-delivered-id'].decode()}", "+", count=1)
    found = []
    if unread:
        entry_id = unread[0][0].decode()
        found.append(Oldest(entry_id, now - id_parts(entry_id)[0]))
    for one in pending:
        entry_id, consumer = one["message_id"].decode(), as_text(one["consumer"])
        age = now - id_parts(entry_id)[0]
        found.append(Oldest(entry_id, age, consumer, one["time_since_delivered"], one["times_delivered"]))
    # Both: a group that was set back reads entries again that come before its pending ones.
    return min(found, key=lambda one: id_parts(one.entry_id), default=None)

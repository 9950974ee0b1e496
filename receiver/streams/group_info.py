"""What Redis knows of a consumer group: XINFO GROUPS and XPENDING, as values with types.

The name of a group or consumer is bytes of its creator's choice. Commands take the bytes; people and metrics see
``as_text``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import ResponseError

from receiver.redis_client import on

if TYPE_CHECKING:
    from receiver.redis_client import Client


class GroupInfo(NamedTuple):
    """A group of a stream. ``lag`` counts the entries that it has not read; Redis does not always know it.

    ``entries_read`` is None before Redis 7, and where Redis has lost count.
    """

    name: bytes
    pending: int
    last_delivered_id: str
    lag: int | None
    entries_read: int | None


class PendingEntry(NamedTuple):
    """An entry that a consumer has read and not acknowledged. ``idle_ms``: since its last delivery."""

    entry_id: str
    consumer: str
    idle_ms: int
    deliveries: int


async def groups_of(client: Client, topic: str) -> list[GroupInfo]:
    """Return the groups of a topic; none without a stream. Raises the errors of redis-py."""
    try:
        groups: list[dict[str, Any]] = await on(client, topic).xinfo_groups(topic)
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
        return []
    return [
        GroupInfo(
            group["name"],
            group["pending"],
            group["last-delivered-id"].decode(),
            group.get("lag"),
            group.get("entries-read"),
        )
        for group in groups
    ]


async def pending_entries(  # noqa: PLR0913 those of XPENDING
    client: Client, topic: str, group: str | bytes, first: str = "-", last: str = "+", *, count: int = 1
) -> list[PendingEntry]:
    """Return the pending entries of a group between two ids, oldest first. Raises the errors of redis-py."""
    found: list[dict[str, Any]] = await on(client, topic).xpending_range(topic, group, first, last, count)
    return [
        PendingEntry(
            one["message_id"].decode(), as_text(one["consumer"]), one["time_since_delivered"], one["times_delivered"]
        )
        for one in found
    ]


def as_text(name: bytes) -> str:
    """Return the name of a group or consumer as text."""
    return name.decode(errors="backslashreplace")

"""The ids of events that the publish script remembers: which events a topic has taken within the dedupe window."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from receiver.delivery.script_calls import seen_keys
from receiver.redis_client import on
from receiver.streams.entry_ids import now_ms

if TYPE_CHECKING:
    from receiver.redis_client import Client


class AddedWindow(NamedTuple):
    """The window in which an event was added, in milliseconds since the epoch by Redis' clock."""

    from_ms: int
    to_ms: int


async def added_window(client: Client, topic: str, event_id: str, window: float) -> AddedWindow | None:
    """Return when a topic has taken an event, or None if the script does not know its id (any longer).

    ``event_id``: 32 hex digits. ``window``: the dedupe window in seconds. Raises the errors of redis-py.
    """
    redis = on(client, topic)
    length = int(window)
    current = await now_ms(client, topic) // 1000 // length
    for number, key in zip((current - 1, current, current + 1), seen_keys(topic, current), strict=True):
        if await redis.sismember(key, bytes.fromhex(event_id)):  # type: ignore[arg-type]  # any bytes
            return AddedWindow(number * length * 1000, (number + 1) * length * 1000)
    return None

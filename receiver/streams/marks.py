"""The ids of events that the publish script remembers: which events a topic has taken within the dedupe window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: The sets that the script looks into, relative to that of the current window: see delivery/publish.lua.
_SETS: Final = (1, 0, -1)


class Taken(NamedTuple):
    """The window in which an event was added, in milliseconds since the epoch by Redis' clock."""

    from_ms: int
    to_ms: int


async def taken(client: Redis, topic: str, event_id: str, window: float) -> Taken | None:
    """Return when a topic has taken an event, or None if the script does not know its id (any longer).

    ``event_id``: 32 hex digits. ``window``: the dedupe window in seconds. Raises the errors of redis-py.
    """
    seconds, _ = await client.time()
    length = int(window)
    for bucket in (seconds // length + offset for offset in _SETS):
        if await client.sismember(f"{{{topic}}}:seen:{bucket}", bytes.fromhex(event_id)):  # type: ignore[arg-type]  # any bytes
            return Taken(bucket * length * 1000, (bucket + 1) * length * 1000)
    return None

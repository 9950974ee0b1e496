"""The ids of entries, which Redis makes by its clock: ``1795258820220-0`` is a time in milliseconds and a number.

https://redis.io/docs/latest/develop/data-types/streams/#entry-ids.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from receiver.redis_client import on

if TYPE_CHECKING:
    from receiver.redis_client import Client

ENTRY_ID: Final = re.compile(r"\d{1,20}-\d{1,20}")


def id_parts(entry_id: str) -> tuple[int, int]:
    """Return the milliseconds and the sequence number of an entry's id. Ids are in the order of these pairs."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


async def now_ms(client: Client, topic: str) -> int:
    """Return the time of the Redis whose clock made the ids of a topic's entries, in milliseconds since the epoch."""
    seconds, microseconds = await on(client, topic).time()
    return int(seconds) * 1000 + int(microseconds) // 1000

"""What each consumer group has done with an entry of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from receiver.streams.entry_ids import id_parts
from receiver.streams.group_info import as_text, groups_of, pending_entries

if TYPE_CHECKING:
    from receiver.redis_client import Client
    from receiver.streams.group_info import GroupInfo

NOT_READ: Final = "not read"
PENDING: Final = "pending"
ACKNOWLEDGED: Final = "acknowledged"


class Reader(NamedTuple):
    """A group and an entry: ``not read``, ``pending`` with a consumer, or ``acknowledged``.

    ``idle_ms`` is the time since the last delivery. Redis keeps no list of acknowledged entries: entries before the
    start of a group count among them.
    """

    group: str
    state: str
    consumer: str | None = None
    idle_ms: int | None = None
    deliveries: int | None = None


async def readers(client: Client, topic: str, entry_id: str) -> list[Reader]:
    """Return the state of an entry in each group of its stream. Raises the errors of redis-py."""
    return [await _reader(client, topic, entry_id, group) for group in await groups_of(client, topic)]


async def _reader(client: Client, topic: str, entry_id: str, group: GroupInfo) -> Reader:
    name = as_text(group.name)
    # First: a group that was set back to read again has pending entries behind its position.
    for pending in await pending_entries(client, topic, group.name, entry_id, entry_id):
        return Reader(name, PENDING, pending.consumer, pending.idle_ms, pending.deliveries)
    read = id_parts(entry_id) <= id_parts(group.last_delivered_id)
    return Reader(name, ACKNOWLEDGED if read else NOT_READ)

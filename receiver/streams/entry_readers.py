"""What each consumer group has done with an entry of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from receiver.redis_client import on
from receiver.streams.backlog import as_text, groups_of
from receiver.streams.entry_ids import id_parts

if TYPE_CHECKING:
    from receiver.redis_client import Client

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


async def _reader(client: Client, topic: str, entry_id: str, group: dict[str, Any]) -> Reader:
    name = as_text(group["name"])
    # First: a group that was set back to read again has pending entries behind its position.
    pending: Any = await on(client, topic).xpending_range(topic, group["name"], entry_id, entry_id, 1)
    if pending:
        consumer = as_text(pending[0]["consumer"])
        return Reader(name, PENDING, consumer, pending[0]["time_since_delivered"], pending[0]["times_delivered"])
    read = id_parts(entry_id) <= id_parts(group["last-delivered-id"].decode())
    return Reader(name, ACKNOWLEDGED if read else NOT_READ)

"""Reads the end of a stream, each entry once, within bounds of entries and bytes.

One command names one stream, so it works on a Redis Cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from receiver.events import EventType  # noqa: TC001 msgspec reads the annotations
from receiver.redis_client import on

if TYPE_CHECKING:
    from receiver.redis_client import Client
    from receiver.streams.paging import StreamEntry

#: Bytes after which a read stops. A rejected item may be as large as a callback, 4 MiB unless set.
_MAX_BYTES: Final = 8 << 20
#: Entries of the first page, and of any: Redis returns whole entries, and their size is not known before.
_FIRST_PAGE, _MAX_PAGE = 4, 64
#: Rounds for which a stream counts as busy after it was.
_COUNT_ROUNDS: Final = 60


class SeenData(msgspec.Struct):
    """The members of ``data`` that the console shows or counts. The decoder skips all others, texts included."""

    message_id: str | None = None
    status_desc: str | None = None
    nation_code: str | None = None
    mobile: str | None = None
    deliver_time: str | None = None
    reasons: list[str] = []


class SeenEvent(msgspec.Struct):
    """An event as the console reads it."""

    id: str
    source: str
    type: EventType
    receivedtime: str
    data: SeenData

    @property
    def provider(self) -> str:
        """The provider in the source ``/{provider}/{project_id}``."""
        return self.source[1:].partition("/")[0]


class NewEntries(NamedTuple):
    """Entries that were added since the last read.

    ``events`` are the newest of them, oldest first, each with the time of its entry in ms. ``added`` is the number of
    all: more than the events if there were too many to read (``truncated``). ``first``: nothing was read before.
    """

    events: list[tuple[int, SeenEvent]]
    added: int
    truncated: bool
    first: bool


_decoder: Final = msgspec.json.Decoder(SeenEvent)


class Tail:
    """The end of one stream. Raises the errors of redis-py."""

    def __init__(self, client: Client, stream: str) -> None:
        """``decode_responses`` of the client must be off."""
        self._client = client
        self._stream = stream
        self._after: bytes | None = None
        self._total: int | None = None
        #: Rounds for which the entries are counted as well, which takes a command more: a stream that was busy.
        self._count_rounds = 0

    async def new(self, limit: int, first_limit: int, since_ms: int) -> NewEntries:
        """Return what was added since the last call, at most ``limit`` events.

        The first time it is what was added since a time in ms, at most ``first_limit`` events.
        """
        first = self._after is None
        limit = first_limit if first else limit
        total = await self._entries_added() if self._count_rounds else None
        after = self._after or f"{since_ms}-0".encode()
        entries, truncated = await newest(self._client, self._stream, limit, after)
        added = len(entries)
        if truncated and total is not None and self._total is not None:
            added = max(added, total - self._total)
        self._total = await self._entries_added() if truncated and total is None else total
        self._count_rounds = _COUNT_ROUNDS if 2 * len(entries) >= limit else max(0, self._count_rounds - 1)
        self._after = entries[0][0] if entries else after
        events = [(_milliseconds(id_), event) for id_, fields in reversed(entries) if (event := decoded(fields))]
        return NewEntries(events, added, truncated, first)

    async def _entries_added(self) -> int | None:
        """Return how many entries the stream has ever had; None before Redis 7, which does not count them."""
        try:
            added: int | None = (await on(self._client, self._stream).xinfo_stream(self._stream)).get("entries-added")
        except ResponseError:  # it was deleted
            return None
        return added


async def newest(client: Client, stream: str, limit: int, after: bytes | None = None) -> tuple[list[StreamEntry], bool]:
    """Return the newest entries, newest first, up to ``limit`` or some 8 MiB. ``after`` is the id of the last one seen.

    Also return whether there may be more. Raises the errors of redis-py.
    """
    found: list[StreamEntry] = []
    size, page_size, end = 0, _FIRST_PAGE, b"+"
    start = b"-" if after is None else b"(" + after
    while len(found) < limit and size < _MAX_BYTES:
        count = min(page_size, limit - len(found))
        page: Any = await on(client, stream).xrevrange(stream, end, start, count=count)
        found += page
        if len(page) < count:
            return found, False
        largest = max(_size(fields) for _, fields in page)
        size += sum(_size(fields) for _, fields in page)
        page_size = max(1, min(_MAX_PAGE, _MAX_BYTES // max(largest, 1) // 2, 4 * page_size))
        end = b"(" + page[-1][0]
    return found, True


def decoded(fields: dict[bytes, bytes]) -> SeenEvent | None:
    """Return the event in an entry's fields, or None if it is not an event of this service."""
    try:
        return _decoder.decode(fields.get(b"data", b""))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _size(fields: dict[bytes, bytes]) -> int:
    return sum(map(len, fields.values()))


def _milliseconds(id_: bytes) -> int:
    return int(id_.partition(b"-")[0])

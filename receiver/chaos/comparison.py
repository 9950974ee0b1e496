"""Compares the acks with the streams: each acknowledged event is there once, and no event twice."""

from __future__ import annotations

import sqlite3
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from receiver.spool.directory import spool_files, suspect_files
from receiver.spool.status import statuses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from redis import Redis

    from receiver.chaos.ack_log import AckLog

#: Entries read at a time. Bounds the memory, and the time for which Redis is blocked.
_PAGE: Final = 2000


class Comparison(NamedTuple):
    """The numbers of the events that break a guarantee, and the number of entries."""

    missing: list[int]
    doubled: list[int]
    strange: int
    entries: int

    @property
    def holds(self) -> bool:
        """Whether every guarantee holds."""
        return not (self.missing or self.doubled or self.strange)


def compare(clients: Iterable[Redis], ack_log: AckLog) -> Comparison:
    """Read every stream of every primary, and compare. An event without an ack may be there once."""
    times = bytearray(len(ack_log))
    strange = entries = 0
    for data in chain.from_iterable(map(_entries, clients)):
        entries += 1
        number = _number(data)
        if number is None or number >= len(times):
            strange += 1
        elif times[number] < 2:  # noqa: PLR2004 twice already breaks a guarantee
            times[number] += 1
    return Comparison(
        missing=[number for number, found in enumerate(times) if not found and ack_log.is_acknowledged(number)],
        doubled=[number for number, found in enumerate(times) if found > 1],
        strange=strange,
        entries=entries,
    )


def count_spooled(data_dir: Path) -> int:
    """Count the events in all spool files of a folder, even of dead processes. A suspect file counts as one more.

    Raises sqlite3.Error for another file that cannot be read: it may hold events.
    """
    folder = data_dir / "spool"
    files, waiting = statuses(spool_files(folder)), statuses(suspect_files(folder))
    unreadable = next((one.problem for one in files if one.problem), None)
    if unreadable is not None:
        raise sqlite3.DatabaseError(unreadable)
    return sum(one.events for one in (*files, *waiting)) + len(waiting)


def _entries(client: Redis) -> Iterator[bytes]:
    for key in client.scan_iter(match="urn:smn:*", count=1000, _type="stream"):
        after = b"-"
        while page := _page(client, key, after):
            for _, fields in page:
                yield fields[b"data"]
            after = b"(" + page[-1][0]


def _page(client: Redis, key: bytes, after: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
    page: Any = client.xrange(key, after, "+", _PAGE)  # its type covers asyncio and decoded clients as well
    return page or []


def _number(wire: bytes) -> int | None:
    """Return the number that the sender gave to an event: in its sid, its text, or its item as received."""
    data: dict[str, Any] = msgspec.json.decode(wire)["data"]
    if "item" in data:
        data = msgspec.json.decode(data["item"])
    name = data.get("message_id") or data.get("sid") or data.get("reply")
    number = str(name).rpartition(":")[2]
    return int(number) if number.isdigit() else None

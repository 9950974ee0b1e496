"""Inspects spool files without the service, and without disturbing it."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from receiver.spool.directory import disk_bytes, files_set_aside, in_use, suspect_files
from receiver.spool.recovery import RowReader, read_only

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_TABLES: Final = ("entries", "parked")
_SUSPECT: Final = "damaged, or hit by an I/O error; a service or `receiver spool drain` will copy the readable events"
_SET_ASIDE: Final = "damaged and set aside; its readable events were copied to another file, and count there"


class _Received(msgspec.Struct):
    receivedtime: str = ""


_received: Final = msgspec.json.Decoder(_Received)


class FileStatus(NamedTuple):
    """The content of a spool file. ``parked`` events wait for a topic that refuses them. ``oldest_time``: in UTC.

    The counts of a file that was set aside are 0: its events were copied.
    """

    file: str
    in_use: bool
    events: int
    parked: int
    bytes: int
    oldest_time: str | None
    topics: dict[str, int]
    problem: str | None = None
    set_aside: bool = False


def statuses(paths: Iterable[Path]) -> list[FileStatus]:
    """Return the content of files. Left out are those that a service removes meanwhile, because they are empty."""
    return [one for one in map(status, paths) if one is not None]


def status(path: Path) -> FileStatus | None:
    """Return the content of a file, or the problem that keeps it from being read; None if there is no such file."""
    size = disk_bytes(path)
    if path in files_set_aside(path.parent):
        return FileStatus(path.name, in_use(path), 0, 0, size, None, {}, _SET_ASIDE, set_aside=True)
    try:
        with closing(read_only(path)) as database:
            counts = [_count(database, table) for table in _TABLES]
            topics = dict(database.execute(_BY_TOPIC).fetchall())
            problem = _SUSPECT if path in suspect_files(path.parent) else None
            return FileStatus(path.name, in_use(path), sum(counts), counts[1], size, _oldest(database), topics, problem)
    except sqlite3.Error as error:
        if not path.exists():
            return None
        return FileStatus(path.name, in_use(path), 0, 0, size, None, {}, str(error))


@contextmanager
def readable(path: Path) -> Iterator[RowReader]:
    """Open a file for short reads: a long read would keep a living process from emptying its log.

    Raises sqlite3.Error.
    """
    with closing(read_only(path)) as database:
        yield RowReader(database)


_BY_TOPIC: Final = (
    "SELECT topic, count(*) FROM (SELECT topic FROM entries UNION ALL SELECT topic FROM parked) GROUP BY 1 ORDER BY 1"
)


def _count(database: sqlite3.Connection, table: str) -> int:
    (count,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 our own names
    return int(count)


def _oldest(database: sqlite3.Connection) -> str | None:
    """Return the time at which the oldest event was received."""
    times = []
    for table in _TABLES:
        row = database.execute(f"SELECT data FROM {table} ORDER BY seq LIMIT 1").fetchone()  # noqa: S608 our own names
        if row is not None:
            try:
                times.append(_received.decode(row[0]).receivedtime)
            except msgspec.MsgspecError:
                continue
    return min(times, default=None)

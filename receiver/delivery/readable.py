"""Reads what can still be read of a spool file, however damaged, in steps that are short and bounded in memory."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.events import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROWS: Final = 1000
_MOST_BYTES: Final = 8 << 20
#: Places that are tried one by one in a step: some 10 ms.
_TRIES: Final = 1000
#: Places in a row that do not read before a table counts as ended: more than a damaged page of the upper levels hides.
_MOST_UNREAD: Final = 5_000_000
#: The same where not even the last place can be read: there is nothing that tells how far to try.
_MOST_UNREAD_BLIND: Final = 10_000
#: The rest is a fault of the moment: busy, locked, out of memory.
_UNREADABLE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)


class DamagedError(sqlite3.DatabaseError):
    """A row is not as it was written."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    sqlite_errorname = "SQLITE_CORRUPT"


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's result code without what is added to it; 0 for what is no answer of SQLite."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def entry_of(topic: object, id_: object, data: object) -> Entry:
    """Return the entry of a row (the topic as bytes). Raises DamagedError for what none of ours can be."""
    if not (isinstance(topic, bytes) and isinstance(id_, bytes) and isinstance(data, bytes)):
        raise DamagedError("a row holds what was never written")
    try:
        return Entry(topic.decode(), id_, data)
    except UnicodeDecodeError:
        raise DamagedError("the topic of a row is no text") from None


class Readable:
    """What can be read of both tables, those put aside first: they are the oldest."""

    def __init__(self, database: sqlite3.Connection, passed: int = 0) -> None:
        """Take a connection, and up to which place the entries are not needed."""
        self._tables = [_Table(database, "parked", 0), _Table(database, "entries", passed)]

    @property
    def unreadable(self) -> int:
        """How many places did not read. At the end of a table that cannot be found, the rest counts as one."""
        return sum(table.unreadable for table in self._tables)

    @property
    def done(self) -> bool:
        """Whether all has been read."""
        return all(table.done for table in self._tables)

    def step(self) -> list[Entry]:
        """Return the next entries; none may come before the end, too. Raises sqlite3.Error, and goes on after it."""
        for table in self._tables:
            if not table.done:
                return table.step()
        return []

    def __iter__(self) -> Iterator[Entry]:
        """Go through all that is left."""
        while not self.done:
            yield from self.step()


class _Table:
    """One table, from the front: many rows at a time, and where that fails, place by place."""

    def __init__(self, database: sqlite3.Connection, name: str, place: int) -> None:
        self._database = database
        columns = f"SELECT seq, CAST(topic AS BLOB), id, data FROM {name}"  # noqa: S608 our own names
        self._behind = f"{columns} WHERE seq > ? ORDER BY seq LIMIT {_ROWS}"
        self._at = f"{columns} WHERE seq = ?"
        self._last = f"SELECT max(seq) FROM {name}"  # noqa: S608 our own names
        self._place = place
        self._unread = 0
        self.unreadable = 0
        self.done = False

    def step(self) -> list[Entry]:
        try:
            found, whole = self._rows()
            return self._try_places() if not (found or whole) else found
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_ERROR:
                raise
            self.done = True  # no such table: its process ended before it had made one
            return []

    def _rows(self) -> tuple[list[Entry], bool]:
        """Return the rows behind the place, and whether nothing kept us from reading them."""
        found: list[Entry] = []
        room = _MOST_BYTES
        try:
            with closing(self._database.execute(self._behind, (self._place,))) as rows:
                for row in rows:
                    entry = self._sound(row)
                    found.append(entry)
                    self._place = row[0]
                    room -= len(entry.data)
                    if room < 0:
                        break
                else:
                    self.done = not found
        except sqlite3.DatabaseError as error:
            _raise_if_passing(error)
            return found, False
        return found, True

    def _try_places(self) -> list[Entry]:
        """Go on place by place until one reads."""
        end, blind = self._end()
        for _ in range(_TRIES):
            if self._place >= end:
                self.unreadable += min(self._unread, 1) if blind else self._unread
                self.done = True
                return []
            self._place += 1
            try:
                row = self._database.execute(self._at, (self._place,)).fetchone()
                entries = [] if row is None else [self._sound(row, self._place)]
            except sqlite3.DatabaseError as error:
                _raise_if_passing(error)
                self._unread += 1
                continue
            self.unreadable += self._unread
            self._unread = 0
            return entries
        return []

    def _end(self) -> tuple[int, bool]:
        """Return up to which place to try, and whether that is a guess because the last one does not read either."""
        begin = self._place - self._unread
        try:
            (last,) = self._database.execute(self._last).fetchone()
        except sqlite3.DatabaseError as error:
            _raise_if_passing(error)
            return begin + _MOST_UNREAD_BLIND, True
        return min(int(last or 0), begin + _MOST_UNREAD), False

    def _sound(self, row: tuple[Any, ...], place: int | None = None) -> Entry:
        """Return a row's entry. Raises DamagedError when it stands elsewhere than it should, or is no event."""
        seq, *rest = row
        if seq <= self._place if place is None else seq != place:
            raise DamagedError("a row is not in its place")
        entry = entry_of(*rest)
        try:
            msgspec.json.decode(entry.data, type=msgspec.Raw)
        except msgspec.MsgspecError:
            raise DamagedError("an event is no JSON") from None
        return entry


def _raise_if_passing(error: sqlite3.DatabaseError) -> None:
    if primary_code(error) not in _UNREADABLE:
        raise error

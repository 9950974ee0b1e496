"""Reads what can still be read of a spool file, however damaged, in steps that are short and bounded in memory."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.spool.directory import parts
from receiver.events import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The columns of an entry as bytes, whatever damage has made of them: Python's sqlite3 fails at text that is none.
COLUMNS: Final = "CAST(topic AS BLOB), CAST(id AS BLOB), CAST(data AS BLOB)"
#: Bytes of an event's id.
_ID: Final = 16
_ROWS: Final = 1000
_MOST_BYTES: Final = 8 << 20
#: Places that are tried one by one in a step: some 10 ms.
_TRIES: Final = 1000
#: Places in a row that are tried one by one, far more than a damaged page above the rows hides; it takes half a second.
#: What is hidden for longer is leapt over: a row in the midst of it is not found, all behind it are.
_NEAR: Final = 100_000
_LAST_PLACE: Final = 2**63 - 1
#: What stands in the file is not what was written. Others are faults of the moment (busy, full) or of the disk.
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG)

_json: Final = msgspec.json.Decoder(msgspec.Raw)


class DamagedError(sqlite3.DatabaseError):
    """A file, or a row of it, is not as it was written."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    sqlite_errorname = "SQLITE_CORRUPT"


def is_damage(error: Exception) -> bool:
    """Tell whether an error means that its file is damaged, and will be the next time, too."""
    return _primary_code(error) in _DAMAGE


def refuse_emptied(path: Path) -> None:
    """Raise DamagedError for a file that was cut to nothing: opened, SQLite would discard the log beside it."""
    file, log, _ = parts(path)
    if file.exists() and file.stat().st_size == 0 and log.exists() and log.stat().st_size > 0:
        raise DamagedError("the file is empty, and its log is not")


def _primary_code(error: Exception) -> int:
    """Return SQLite's result code without what is added to it; 0 for what is no answer of SQLite."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def entry_of(topic: object, id_: object, data: object) -> Entry:
    """Return the entry of a row, as ``COLUMNS`` give it. Raises DamagedError for what none of ours can be."""
    if not (isinstance(topic, bytes) and isinstance(id_, bytes) and isinstance(data, bytes)) or len(id_) != _ID:
        raise DamagedError("a row holds what was never written")
    try:
        _json.decode(data)
        data.decode()  # which the line above does not look at
        return Entry(topic.decode(), id_, data)
    except (UnicodeDecodeError, msgspec.MsgspecError):
        raise DamagedError("a row is no event") from None


class Readable:
    """What can be read of both tables, those put aside first: they are the oldest."""

    def __init__(self, database: sqlite3.Connection, passed: int = 0) -> None:
        """Take a connection, and up to which place the entries are not needed."""
        database.execute("PRAGMA writable_schema = ON")  # SQLite then reads a file that is shorter than it was, too
        self._tables = [_Table(database, "parked", 0), _Table(database, "entries", passed)]

    @property
    def unreadable(self) -> int:
        """How many places did not read. A stretch whose end is not near counts as one: nobody knows what it held."""
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
    """One table, from the front: many rows at a time, and where that fails, from the next place that reads."""

    def __init__(self, database: sqlite3.Connection, name: str, place: int) -> None:
        self._database = database
        self._from = f"SELECT seq, {COLUMNS} FROM {name} WHERE seq >= ? ORDER BY seq LIMIT ?"  # noqa: S608 our own names
        self._place = place + 1
        self._limit = _ROWS
        self._gap = 0
        self.unreadable = 0
        self.done = False

    def step(self) -> list[Entry]:
        for _ in range(_TRIES):
            if self.done:
                break
            try:
                found = self._rows()
            except sqlite3.Error as error:
                if _primary_code(error) == sqlite3.SQLITE_ERROR:  # no such table: its process ended before it made one
                    self.done = True
                    break
                _raise_if_passing(error)
                if self._limit == 1:
                    self._pass()
                self._limit = 1  # of more, Python's cursor looks at the next one before it returns the first
            else:
                self._gap = 0
                self._limit = _ROWS
                self.done = not found
                return found
        return []

    def _rows(self) -> list[Entry]:
        """Return the rows from the place on, up to one that does not read. Raises sqlite3.Error if it is the first."""
        found: list[Entry] = []
        room = _MOST_BYTES
        try:
            with closing(self._database.execute(self._from, (self._place, self._limit))) as rows:
                for seq, *row in rows:
                    if seq < self._place:
                        raise DamagedError("a row is not in its place")
                    found.append(entry_of(*row))
                    self._place = seq + 1
                    room -= len(found[-1].data)
                    if room < 0:
                        break
        except sqlite3.Error:
            if not found:
                raise
        return found

    def _pass(self) -> None:
        """Leave a place that does not read."""
        self._place += 1
        self._gap += 1
        self.unreadable += 1
        if self._gap >= _NEAR:
            self._leap()

    def _leap(self) -> None:
        """Find by halves where it reads again. If nowhere, this is the end."""
        low, high = self._place, self._place + _NEAR
        while not self._reads(high):
            low, high = high, 2 * high
            if high > _LAST_PLACE:
                self.done = True
                break
        while not self.done and high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._reads(middle) else (middle, high)
        self._place = high
        self.unreadable -= self._gap - 1
        self._gap = 0

    def _reads(self, place: int) -> bool:
        try:
            self._database.execute(self._from, (place, 1)).fetchone()
        except sqlite3.Error as error:
            _raise_if_passing(error)
            return False
        return True


def _raise_if_passing(error: sqlite3.Error) -> None:
    if not is_damage(error) and _primary_code(error) != sqlite3.SQLITE_IOERR:
        raise error

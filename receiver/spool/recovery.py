"""Copies the rows of a damaged file that SELECT can still read, range by range, into a sound file.

The rest is left to an operator: ``sqlite3 FILE .recover`` reads pages that SELECT does not. An event that is copied
twice is published once.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from receiver.spool.budget import Budget
from receiver.spool.directory import lock, lock_of, log_bytes, refuse_emptied, remove, set_aside
from receiver.spool.errors import DamagedError, is_index_error, makes_suspect, primary_code
from receiver.spool.rows import COLUMNS, entry_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import TextIOWrapper
    from pathlib import Path
    from typing import Self

    from receiver.events import Entry

#: Rows in one SELECT.
_ROWS: Final = 1000
#: Ranges that one step reads: some 20 ms.
_RANGES: Final = 1000
#: Consecutive failed ranges before whole ranges are skipped: more than one damaged inner page can hide.
_MAX_FAILED: Final = 20_000
_LAST_PLACE: Final = 2**63 - 1


class RowReader:
    """Reads both tables, the parked entries first, since they are the oldest. Halves a range that fails."""

    def __init__(self, database: sqlite3.Connection, after: int = 0, max_bytes: int = 1 << 62) -> None:
        """``after``: the place up to which no entry is needed. ``max_bytes``: the cap of the file that takes them."""
        self.complete = True
        self._database = database
        self._read_bytes = Budget(max_bytes).read
        self._ranges = [("entries", after + 1, _LAST_PLACE), ("parked", 1, _LAST_PLACE)]
        self._failed = 0

    @property
    def done(self) -> bool:
        """Whether every range was read or skipped."""
        return not self._ranges

    def step(self) -> list[Entry]:
        """Return some entries, possibly none although more follow. After a sqlite3.Error the next step continues."""
        for _ in range(_RANGES):
            if self.done:
                break
            table, low, high = self._ranges[-1]
            try:
                found, place = self._rows(table, low, high)
            except sqlite3.Error as error:
                self._ranges.pop()
                if primary_code(error) == sqlite3.SQLITE_NOTADB:
                    self.complete = False
                elif makes_suspect(error):
                    self._halve(table, low, high)
                elif primary_code(error) != sqlite3.SQLITE_ERROR:  # no such table: its process ended too early
                    self._ranges.append((table, low, high))  # busy, for example
                    raise
            else:
                self._failed = 0
                self._ranges[-1:] = [(table, place + 1, high)] if place < high else []
                if found:
                    return found
        return []

    def __iter__(self) -> Iterator[Entry]:
        """Yield the remaining entries."""
        while not self.done:
            yield from self.step()

    def _rows(self, table: str, low: int, high: int) -> tuple[list[Entry], int]:
        """Return the first entries of a range, and the place read up to. Raises if the first row fails."""
        query = f"SELECT seq, {COLUMNS} FROM {table} WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?"  # noqa: S608 our own names
        limit = min(_ROWS, high - low + 1)  # without a limit SQLite would read past the last row, into the damage
        found: list[Entry] = []
        place = low - 1
        bytes_left = self._read_bytes
        try:
            with closing(self._database.execute(query, (low, high, limit))) as rows:
                for seq, *row in rows:
                    if not place < seq <= high:
                        raise DamagedError("a row is not in its place")
                    found.append(entry_of(*row))
                    place = seq
                    bytes_left -= len(found[-1].data)
                    if bytes_left < 0 or len(found) == limit:
                        return found, place
        except sqlite3.Error:
            if not found:
                raise
            return found, place
        return found, high

    def _halve(self, table: str, low: int, high: int) -> None:
        self._failed += 1
        if low == high or (self._failed > _MAX_FAILED and not self._reads(table, high)):
            self.complete = False
            return
        middle = (low + high) // 2
        self._ranges += [(table, middle + 1, high), (table, low, middle)]

    def _reads(self, table: str, place: int) -> bool:
        try:
            self._rows(table, place, place)
        except sqlite3.Error:
            return False
        return True


class Recovery:
    """Copies the readable rows of one file into a sound file. Blocking: use it in a thread."""

    def __init__(self, reader: RowReader) -> None:
        self.copied = 0
        self.reader = reader
        self._held: list[Entry] = []

    def step(self, add: Callable[[list[Entry]], None]) -> bool:
        """Make some entries durable with ``add``. Return whether more may follow.

        After a sqlite3.Error the next step retries the same entries.
        """
        self._held = self._held or self.reader.step()
        if self._held:
            add(self._held)
            self.copied += len(self._held)
            self._held = []
        return not self.reader.done


class SuspectFile(Recovery):
    """The recovery of a suspect file, by one process at a time."""

    def __init__(self, path: Path, held: TextIOWrapper, max_bytes: int) -> None:
        """Open the file for reading; ``held`` is its lock. Raises sqlite3.Error."""
        self.path = path
        self._lock = held
        try:
            self._database = read_only(path)
            super().__init__(RowReader(self._database, max_bytes=max_bytes))
        except DamagedError:
            self._database = sqlite3.connect(":memory:", check_same_thread=False)
            super().__init__(RowReader(self._database))
            self.reader.complete = False

    @classmethod
    def open(cls, path: Path, max_bytes: int) -> Self | None:
        """Return the recovery, or None if another process runs it or has finished it. Raises OSError, sqlite3.Error."""
        held = lock(path)
        if held is None:
            return None
        try:
            if path.exists():
                return cls(path, held, max_bytes)
        except sqlite3.Error:
            held.close()
            raise
        lock_of(path).unlink(missing_ok=True)
        held.close()
        return None

    def finish(self) -> Path | None:
        """Set the file aside and return its new path, or delete it if it was empty. Raises OSError."""
        self._database.close()
        if self.copied or not self.reader.complete:
            return set_aside(self.path)
        remove(self.path)
        lock_of(self.path).unlink(missing_ok=True)
        return None

    def close(self) -> None:
        """Close the file and free its lock."""
        self._database.close()
        self._lock.close()


def read_only(path: Path) -> sqlite3.Connection:
    """Open a file without changing it. Raises sqlite3.Error."""
    refuse_emptied(path)
    database = _connect(path, "mode=ro")
    try:
        database.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:  # any other error: the reader skips the rows that fail
        if is_index_error(error) and log_bytes(path) == 0:  # a full disk, and no log that needs an index
            database.close()
            return _connect(path, "immutable=1")
    return database


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    database = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=5, check_same_thread=False)
    database.execute("PRAGMA writable_schema = ON")  # SQLite then also reads a truncated file
    return database

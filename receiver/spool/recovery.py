"""Reads what plain SELECTs still read of a damaged file, by ranges of places, and copies it into a sound one.

A file that holds more than that is left to an operator: ``sqlite3 FILE .recover`` reads pages that SELECT does not.
What is copied twice is published once.
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

_ROWS: Final = 1000
#: Ranges that are tried in one step: some 20 ms.
_TRIES: Final = 1000
#: Ranges in a row that fail before whole ranges are given up: more than one damaged page above the rows can hide.
_MAX_FAILED: Final = 20_000
_LAST_PLACE: Final = 2**63 - 1


class Reader:
    """Reads both tables, the parked entries first: they are the oldest. Halves a range that fails."""

    def __init__(self, database: sqlite3.Connection, after: int = 0, max_bytes: int = 1 << 62) -> None:
        """Take a connection, the place behind which entries are needed, and the cap of the file that takes them."""
        self.complete = True
        self._database = database
        self._read_bytes = Budget(max_bytes).read
        self._ranges = [("entries", after + 1, _LAST_PLACE), ("parked", 1, _LAST_PLACE)]
        self._failed = 0

    @property
    def done(self) -> bool:
        """Whether everything was tried."""
        return not self._ranges

    def step(self) -> list[Entry]:
        """Return some entries; perhaps none although there are more. Raises sqlite3.Error, and goes on after it."""
        for _ in range(_TRIES):
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
        """Go through everything that is left."""
        while not self.done:
            yield from self.step()

    def _rows(self, table: str, low: int, high: int) -> tuple[list[Entry], int]:
        """Return the first entries of a range, and the place up to which it was read. Raises if the first one fails."""
        query = f"SELECT seq, {COLUMNS} FROM {table} WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?"  # noqa: S608 our own names
        limit = min(_ROWS, high - low + 1)  # without it SQLite would look behind the last row, where the damage may be
        found: list[Entry] = []
        place = low - 1
        room = self._read_bytes
        try:
            with closing(self._database.execute(query, (low, high, limit))) as rows:
                for seq, *row in rows:
                    if not place < seq <= high:
                        raise DamagedError("a row is not in its place")
                    found.append(entry_of(*row))
                    place = seq
                    room -= len(found[-1].data)
                    if room < 0 or len(found) == limit:
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
    """Copies what reads of one file into a sound one. Blocking: use it in a thread."""

    def __init__(self, reader: Reader) -> None:
        """Take what is read."""
        self.copied = 0
        self.reader = reader
        self._held: list[Entry] = []

    def step(self, add: Callable[[list[Entry]], None]) -> bool:
        """Copy some entries by making them durable; return whether there may be more.

        Raises sqlite3.Error; the next step tries the same entries again.
        """
        self._held = self._held or self.reader.step()
        if self._held:
            add(self._held)
            self.copied += len(self._held)
            self._held = []
        return not self.reader.done


class SuspectFile(Recovery):
    """The recovery of a file that was marked suspect, by one process at a time."""

    def __init__(self, path: Path, held: TextIOWrapper, max_bytes: int) -> None:
        """Open the file for reading. Raises sqlite3.Error."""
        self.path = path
        self._lock = held
        try:
            self._database = read_only(path)
            super().__init__(Reader(self._database, max_bytes=max_bytes))
        except DamagedError:
            self._database = sqlite3.connect(":memory:", check_same_thread=False)
            super().__init__(Reader(self._database))
            self.reader.complete = False

    @classmethod
    def open(cls, path: Path, max_bytes: int) -> Self | None:
        """Return the recovery unless another process does it, or has done it. Raises OSError and sqlite3.Error."""
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
        """Set the file aside and return its new path; remove it if it was empty. Raises OSError."""
        self._database.close()
        if self.copied or not self.reader.complete:
            return set_aside(self.path)
        remove(self.path)
        lock_of(self.path).unlink(missing_ok=True)
        return None

    def close(self) -> None:
        """Let other processes have the file."""
        self._database.close()
        self._lock.close()


def read_only(path: Path) -> sqlite3.Connection:
    """Open a file without changing it. Raises sqlite3.Error."""
    refuse_emptied(path)
    database = _connect(path, "mode=ro")
    try:
        database.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:  # else the reader finds out what still reads
        if is_index_error(error) and log_bytes(path) == 0:  # a full disk, and no log that would need an index
            database.close()
            return _connect(path, "immutable=1")
    return database


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    database = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=5, check_same_thread=False)
    database.execute("PRAGMA writable_schema = ON")  # SQLite then also reads a file that was cut
    return database

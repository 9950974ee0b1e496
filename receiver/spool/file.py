"""One file of the spool: entries in SQLite, in the order in which they were added. Blocking: use it in a thread.

WAL mode with ``synchronous=FULL``: a commit that has returned is on the disk
(https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from receiver.spool.file_identity import Identity, MovedError, is_open_at
from receiver.spool.recovery import COLUMNS, DamagedError, Readable, entry_of, is_damage, refuse_emptied
from receiver.spool.directory import file_of, lock, lock_of, parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import TextIOWrapper
    from pathlib import Path

    from receiver.events import Entry

PAGE: Final = 4096
#: More processes than this cannot share a folder.
_MOST_FILES: Final = 256
#: Bytes of the entries that are read at a time, unless one alone has more.
_MOST_BYTES: Final = 8 << 20
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, topic TEXT, id BLOB, data BLOB);
CREATE TABLE IF NOT EXISTS parked (seq INTEGER PRIMARY KEY, topic TEXT, id BLOB, data BLOB);
CREATE TABLE IF NOT EXISTS probe (one INTEGER PRIMARY KEY, times INTEGER);
"""


class Spooled(NamedTuple):
    """An entry with its place in the file."""

    seq: int
    entry: Entry


class SpoolFile:
    """One SQLite file, locked. Blocking: use it in a thread."""

    def __init__(self, path: Path, lock: TextIOWrapper, max_bytes: int) -> None:
        """Open or create the file. Raises sqlite3.Error."""
        self.path = path
        self._damage: str | None = None
        self._lock = lock
        self._max_bytes = max_bytes
        #: Up to this place all is safe elsewhere, although a full disk did not let us remove it.
        self._passed = 0
        #: Up to this place all is safe elsewhere or waits for its topic in vain: read past until ``retry``.
        self._tried = 0
        self._open()

    def add(self, entries: list[Entry]) -> None:
        """Append entries; they are on the disk, in the folder, when this returns. Raises sqlite3.Error otherwise."""
        self.check()  # what is refused need not pile up where only we find it
        with self._adding as transaction:
            transaction.executemany("INSERT INTO entries (topic, id, data) VALUES (?, ?, ?)", map(_row, entries))
        self.check()  # removed in between, it took them, and keeps them from all others

    def probe(self) -> None:
        """Write and sync something of no weight. Raises sqlite3.Error."""
        with self._adding as transaction:
            transaction.execute("INSERT INTO probe VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET times = times + 1")

    def oldest(self, limit: int, table: str = "entries", after: int = 0) -> list[Spooled]:
        """Return the oldest entries behind a place, in the order in which they were added, as many as memory allows."""
        query = f"SELECT seq, {COLUMNS} FROM {table} WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 our own names
        found: list[Spooled] = []
        room = _MOST_BYTES
        with closing(self._draining.execute(query, (max(after, self._read_past(table)), limit))) as rows:
            for seq, *row in rows:
                entry = entry_of(*row)
                room -= len(entry.data)
                if found and room < 0:
                    break
                found.append(Spooled(seq, entry))
        return found

    def retry(self) -> None:
        """Read what was read past once more: its topic may take it by now, or the disk its removal."""
        self._tried = 0

    def remove(self, spooled: list[Spooled], table: str = "entries", *, all_of_them: bool = True) -> None:
        """Forget entries that are safe elsewhere, and, if they are all, what is in front of them.

        A full disk has no room for the log of a removal: then the place is kept in mind, and ``shrink`` ends the file.
        With others in between that are safe nowhere, they are read past, and found to be duplicates later.
        """
        try:
            with self._draining as transaction:
                query = f"DELETE FROM {table} WHERE seq BETWEEN ? AND ?"  # noqa: S608 our own names
                transaction.executemany(query, _runs([one.seq for one in spooled]))
        except sqlite3.OperationalError:
            if table != "entries":
                return
            if all_of_them and not self._tried:
                self._passed = spooled[-1].seq
            else:
                self._tried = spooled[-1].seq

    def park(self, spooled: list[Spooled]) -> None:
        """Put entries aside that their topic does not take, so that they do not hold up the others.

        Removed first: a file at its cap has room for them only where they were. Without it they stay and are read past.
        """
        try:
            with self._draining as transaction:
                transaction.executemany(
                    "DELETE FROM entries WHERE seq BETWEEN ? AND ?", _runs([one.seq for one in spooled])
                )
                rows = [_row(one.entry) for one in spooled]
                transaction.executemany("INSERT INTO parked (topic, id, data) VALUES (?, ?, ?)", rows)
        except sqlite3.OperationalError:
            # Not further than the last of them: who comes when all behind it is removed gets the place behind it.
            self._tried = max(self._tried, spooled[-1].seq)

    def count(self) -> int:
        """Return how many entries there are. Exact but for gaps: rows leave from the front."""
        total = 0
        for table in ("entries", "parked"):
            # Two look-ups: SQLite answers min and max together by reading the whole table (8 ms for 100,000 events).
            query = f"SELECT (SELECT min(seq) FROM {table} WHERE seq > ?), (SELECT max(seq) FROM {table})"  # noqa: S608 our own names
            first, last = self._draining.execute(query, (self._done_in(table),)).fetchone()
            total += 0 if first is None else last - first + 1
        return total

    def size(self) -> int:
        """Return the bytes on disk, those of the write-ahead log included."""
        return sum(path.stat().st_size for path in self.path.parent.glob(self.path.name + "*"))

    def shrink(self) -> None:
        """Give the disk space of an emptied file back."""
        if self.count() > 0:
            return
        self._tried = 0
        if self._passed:
            self._begin_anew()
        elif self.size() > 1 << 20:
            self._draining.execute("VACUUM")
            self._draining.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def check(self) -> None:
        """Raise MovedError when a part of the file or its lock is no longer in the folder, DamagedError once it is."""
        self._identity.check()
        if not is_open_at(lock_of(self.path), self._lock.fileno()):
            raise MovedError(lock_of(self.path))
        if self._damage is not None:
            raise DamagedError(self._damage)

    def suspect(self, error: Exception) -> None:
        """Take an error of this file. One that is damaged takes nothing more, and its owner has to leave it."""
        if is_damage(error):
            self._damage = str(error)

    def readable(self) -> Readable:
        """Return all that the open file holds and is not safe elsewhere, wherever its names lead by now."""
        return Readable(self._draining, self._passed)

    def discard(self) -> None:
        """Remove the files, if they are still ours."""
        if self._identity.has(self.path) and is_open_at(lock_of(self.path), self._lock.fileno()):
            for part in parts(self.path):
                part.unlink(missing_ok=True)

    def close(self) -> None:
        """Close, and let others have the file."""
        self.opened = False
        self._adding.close()
        self._draining.close()
        self._lock.close()

    def _open(self) -> None:
        refuse_emptied(self.path)
        # Two connections: what is added must be on the disk; what was drained may come back, since it adds nothing.
        self._adding = self._connect("FULL")
        self._adding.executescript(SCHEMA)
        self._draining = self._connect("NORMAL")
        self._identity = Identity.of(parts(self.path))
        self.opened = True

    def _done_in(self, table: str) -> int:
        return self._passed if table == "entries" else 0

    def _read_past(self, table: str) -> int:
        return max(self._passed, self._tried) if table == "entries" else 0

    def _begin_anew(self) -> None:
        """Replace a file of which nothing is needed any more. The lock is ours throughout."""
        self.check()  # what is under its name else may be another process's
        self._adding.close()
        self._draining.close()
        self.opened = False
        for part in parts(self.path):
            part.unlink(missing_ok=True)
        self._passed = 0
        self._open()

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, check_same_thread=False, timeout=1)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(f"PRAGMA max_page_count={max(64, self._max_bytes // PAGE)}")
        return connection


def _runs(places: list[int]) -> Iterator[tuple[int, int]]:
    """Return the first and the last of each run without a gap: as a rule there is one, and one statement deletes it."""
    for _, run in groupby(enumerate(places), lambda pair: pair[1] - pair[0]):
        found = [place for _, place in run]
        yield found[0], found[-1]


def _row(entry: Entry) -> tuple[str, bytes, bytes]:
    return entry.topic, entry.id, entry.data


def lock_file(path: Path, max_bytes: int) -> SpoolFile | None:
    """Open a spool file if no living process holds it. Raises OSError and sqlite3.Error."""
    held = lock(path)
    if held is None:
        return None
    try:
        return SpoolFile(path, held, max_bytes)
    except sqlite3.Error:
        held.close()
        raise


def free_file(folder: Path, max_bytes: int, but: Path | None = None) -> SpoolFile:
    """Take the first spool file that nobody holds and that opens. Raises OSError and sqlite3.Error.

    ``but``: not this one if it is there. One that has lost its log alone would be damaged by another log.
    """
    for path in (file_of(folder, number) for number in range(_MOST_FILES)):
        if path == but and path.exists():
            continue
        try:
            spool_file = lock_file(path, max_bytes)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                continue  # the drain sees to it
            raise
        if spool_file is not None:
            return spool_file
    raise OSError(f"more than {_MOST_FILES} processes use {folder}")

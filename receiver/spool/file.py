"""One file of the spool: entries in the order in which they were added. Blocking: use it in a thread."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from receiver.spool.budget import bytes_needed
from receiver.spool.database import Database
from receiver.spool.directory import disk_bytes, file_of, lock, lock_of, mark_suspect, remove
from receiver.spool.errors import CapReachedError, is_damage, makes_suspect
from receiver.spool.file_identity import MovedError, is_open_at
from receiver.spool.rows import COLUMNS, SpoolRow, entry_of, row_of, runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import TextIOWrapper
    from pathlib import Path

    from receiver.events import Entry

#: The most processes that share a folder.
_MAX_FILES: Final = 256
_INSERT: Final = "INSERT INTO {} (topic, id, data) VALUES (?, ?, ?)"
_DELETE: Final = "DELETE FROM {} WHERE seq BETWEEN ? AND ?"
#: An emptied file larger than this is replaced, so that the disk gets its space back.
_MAX_EMPTY: Final = 1 << 20


class SpoolFile:
    """One SQLite file, locked by this process. Blocking: use it in a thread.

    Its state in memory, in addition to what is in SQLite:

    | attribute          | meaning                                                          | set by       | until   |
    |--------------------|------------------------------------------------------------------|--------------|---------|
    | _published_through | Redis has all entries up to here; a full disk refused the DELETE | remove       | the end |
    | _skip_through      | the same, except for entries that their topic refused            | remove, park | retry   |
    | fault              | damage, or an I/O error of a commit: no event is added any more  | any access   | the end |
    """

    def __init__(self, path: Path, lock: TextIOWrapper, max_bytes: int, *, to_drain: bool = False) -> None:
        """Open or create the file. Raises OSError and sqlite3.Error.

        ``max_bytes`` bounds the sum of its files. ``to_drain``: no event will be added, so a full disk is no obstacle.
        """
        self.path = path
        self.fault: sqlite3.Error | None = None
        self._lock = lock
        self._published_through = 0
        self._skip_through = 0
        is_new = not path.exists()
        try:
            self._database = Database(path, max_bytes, to_drain=to_drain)
        except (OSError, sqlite3.Error):
            if is_new:
                remove(path)
            raise

    def add(self, entries: list[Entry]) -> None:
        """Append entries. They are on the disk, in the folder, when this returns. Raises sqlite3.Error otherwise."""
        self.check()  # first: refused entries would otherwise pile up in a file that only this process can reach
        database = self._database
        with self._noting_faults():
            needed = bytes_needed(entries)
            database.reserve(needed)
            for batch in database.budget.batches(entries, needed):
                database.bound_log(min(needed, database.budget.log))
                with database.adding as transaction:
                    transaction.executemany(_INSERT.format("entries"), map(row_of, batch))
        self.check()  # again: a file that was deleted meanwhile takes entries, and loses them with this process

    def probe(self) -> None:
        """Write and sync a row without content. Raises sqlite3.Error."""
        self.check()
        database = self._database
        with self._noting_faults():
            if database.is_full:
                raise CapReachedError("RECEIVER_SPOOL_MAX_BYTES is reached; events have to be drained first")
            database.bound_log(database.budget.log // 2)
            with database.adding as transaction:
                transaction.execute("INSERT INTO probe VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET times = times + 1")

    def oldest(self, limit: int, table: str = "entries", after: int = 0) -> list[SpoolRow]:
        """Return the oldest entries after a place, in the order of their addition. The budget of memory bounds them."""
        query = f"SELECT seq, {COLUMNS} FROM {table} WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 our own names
        found: list[SpoolRow] = []
        bytes_left = self._database.budget.read
        start = max(after, self._skip_through, self._published_through) if table == "entries" else after
        with self._noting_faults(), closing(self._database.draining.execute(query, (start, limit))) as rows:
            for seq, *row in rows:
                entry = entry_of(*row)
                bytes_left -= len(entry.data)
                if found and bytes_left < 0:
                    break
                found.append(SpoolRow(seq, entry))
        return found

    def retry(self) -> None:
        """Read the skipped entries again: by now their topic may take them, or the disk their DELETE."""
        self._skip_through = 0

    def remove(self, spooled: list[SpoolRow], table: str = "entries", *, whole_batch: bool = True) -> None:
        """Delete published entries.

        A full disk has no room for the log of a DELETE. The place is then kept in memory. If others of the batch are
        not published (``whole_batch`` is false), the published ones are skipped for now; after a retry Redis recognises
        them as duplicates.
        """
        try:
            self._delete(spooled, table)
        except sqlite3.OperationalError:
            if table != "entries":
                return
            if whole_batch and not self._skip_through:
                self._published_through = spooled[-1].seq
            else:
                self._skip_through = spooled[-1].seq

    def park(self, spooled: list[SpoolRow]) -> None:
        """Move entries that their topic refuses to another table, so that they do not hold up the others.

        The DELETE comes first: a file at its cap has room for them only in the pages that it frees. If the transaction
        fails, the entries stay and are skipped.
        """
        try:
            self._delete(spooled, "entries", parked=True)
        except sqlite3.OperationalError:
            # Only up to the last of them: if all later rows are deleted, SQLite gives the next row the place after it.
            self._skip_through = max(self._skip_through, spooled[-1].seq)

    def count(self) -> int:
        """Return the number of entries. Exact except for gaps: rows are deleted from the front."""
        return self.count_unparked() + self._count("parked", 0)

    def count_unparked(self) -> int:
        """Return the number of entries that are not parked."""
        return self._count("entries", self._published_through)

    def _count(self, table: str, after: int) -> int:
        # Two subqueries: SQLite answers min and max in one by reading the whole table (8 ms for 100,000 events).
        query = f"SELECT (SELECT min(seq) FROM {table} WHERE seq > ?), (SELECT max(seq) FROM {table})"  # noqa: S608 our own names
        with self._noting_faults():
            first, last = self._database.draining.execute(query, (after,)).fetchone()
        return 0 if first is None else last - first + 1

    @property
    def is_used_up(self) -> bool:
        """Whether an empty file occupies disk space. Deleting the file succeeds even on a full disk."""
        return self.count() == 0 and (self._published_through > 0 or self.size() > _MAX_EMPTY)

    def yield_bytes(self, number: int) -> None:
        """Leave so many bytes of the bound to files of ended processes. The file may be full then."""
        self._database.yield_bytes(number)

    def size(self) -> int:
        """Return the bytes on disk, including the write-ahead log."""
        return disk_bytes(self.path)

    def check(self) -> None:
        """Raise MovedError if a file or the lock has left the folder. Raise the fault if there is one."""
        self._check_identity()
        if self.fault is not None:
            raise self.fault.with_traceback(None)  # else it collects the frames of every caller

    def remaining(self) -> tuple[sqlite3.Connection, int]:
        """Return a connection that reads the remaining entries even of a moved file, and the place to read from."""
        return self._database.draining, self._published_through

    def set_suspect(self) -> Path:
        """Leave the file to recovery, which copies its readable rows. Return its new path. Raises OSError."""
        suspect = mark_suspect(self.path)
        self.close()
        return suspect

    def discard(self) -> None:
        """Delete the files, whose content is no longer needed. Raises MovedError if others have taken their place."""
        with closing(self):
            self._check_identity()
            remove(self.path)

    def close(self) -> None:
        """Close the database and free the lock."""
        self._database.close()
        self._lock.close()

    def _delete(self, spooled: list[SpoolRow], table: str, *, parked: bool = False) -> None:
        with self._noting_faults(), self._database.draining as transaction:
            self._database.bound_log()
            transaction.executemany(_DELETE.format(table), runs([one.seq for one in spooled]))
            if parked:
                transaction.executemany(_INSERT.format("parked"), (row_of(one.entry) for one in spooled))

    def _check_identity(self) -> None:
        self._database.identity.check()
        if not is_open_at(lock_of(self.path), self._lock.fileno()):
            raise MovedError(lock_of(self.path))

    @contextmanager
    def _noting_faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self.fault is None and makes_suspect(error):
                self.fault = error
            raise


def lock_file(path: Path, max_bytes: int, *, to_drain: bool = False) -> SpoolFile | None:
    """Open a spool file unless a living process holds it. Mark it suspect if it is damaged.

    Raises OSError and sqlite3.Error.
    """
    held = lock(path)
    if held is None:
        return None
    try:
        return SpoolFile(path, held, max_bytes, to_drain=to_drain)
    except (OSError, sqlite3.Error) as error:
        if makes_suspect(error) and path.exists():
            mark_suspect(path)
        held.close()
        raise


def free_file(folder: Path, max_bytes: int, but: Path | None = None) -> SpoolFile:
    """Open the first spool file that no process holds. Raises OSError and sqlite3.Error.

    ``but``: skip this file if it exists. If it has only lost its log, a new log would damage it.
    """
    for path in (file_of(folder, number) for number in range(_MAX_FILES)):
        if path == but and path.exists():
            continue
        try:
            spool_file = lock_file(path, max_bytes)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                continue
            raise
        if spool_file is not None:
            return spool_file
    raise OSError(f"more than {_MAX_FILES} processes use {folder}")

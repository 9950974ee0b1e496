"""One file of the spool: entries in SQLite, in the order in which they were added. Blocking: use it in a thread.

WAL mode with ``synchronous=FULL``: a commit that has returned is on the disk
(https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from receiver.spool.budget import PAGE, Budget, bytes_needed
from receiver.spool.directory import file_of, lock, lock_of, log_bytes, mark_suspect, parts, refuse_emptied, remove
from receiver.spool.errors import CapReachedError, is_damage, is_index_error, makes_suspect
from receiver.spool.file_identity import FileIdentity, MovedError, is_open_at
from receiver.spool.rows import COLUMNS, SCHEMA, Spooled, entry_of, row_of, runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import TextIOWrapper
    from pathlib import Path

    from receiver.events import Entry

#: More processes than this cannot share a folder.
_MAX_FILES: Final = 256
_INSERT: Final = "INSERT INTO {} (topic, id, data) VALUES (?, ?, ?)"
_DELETE: Final = "DELETE FROM {} WHERE seq BETWEEN ? AND ?"
#: An emptied file larger than this is replaced, so that the disk gets its space back.
_MAX_EMPTY: Final = 1 << 20


class SpoolFile:
    """One SQLite file, locked by this process. Blocking: use it in a thread.

    What it knows beside what is in SQLite:

    | attribute          | meaning                                                         | set by       | until   |
    |--------------------|-----------------------------------------------------------------|--------------|---------|
    | _published_through | Redis has everything up to here; a full disk let us delete none | remove       | the end |
    | _skip_through      | as above, but the topics of some of them refused them           | remove, park | retry   |
    | fault              | damage, or an I/O error of a commit: no event is added any more | any access   | the end |
    """

    def __init__(self, path: Path, lock: TextIOWrapper, max_bytes: int, *, to_drain: bool = False) -> None:
        """Open or create the file. Raises OSError and sqlite3.Error.

        ``max_bytes`` bounds the sum of its files. ``to_drain``: nothing will be added, so that a full disk may do.
        """
        self.path = path
        self.fault: sqlite3.Error | None = None
        self._lock = lock
        self._published_through = 0
        self._skip_through = 0
        self._room_left = 0
        self._budget = Budget(max_bytes)
        is_new = not path.exists()
        try:
            self._open(to_drain=to_drain)
        except (OSError, sqlite3.Error):
            if is_new:
                remove(path)
            raise

    def add(self, entries: list[Entry]) -> None:
        """Append entries; they are on the disk, in the folder, when this returns. Raises sqlite3.Error otherwise."""
        self.check()  # else entries that are refused anyway would pile up in a file that only we can find
        with self._noting_faults():
            needed = bytes_needed(entries)
            self._take_room(needed)
            for batch in self._budget.batches(entries, needed):
                self._bound_log(min(needed, self._budget.log))
                with self._adding as transaction:
                    transaction.executemany(_INSERT.format("entries"), map(row_of, batch))
        self.check()  # a file that was removed meanwhile took them, and loses them with this process

    @property
    def is_full(self) -> bool:
        """Whether the cap leaves too little room. It needs less to go on than to resume."""
        return self._room() < self._budget.resume

    def probe(self) -> None:
        """Write and sync something of no weight. Raises sqlite3.Error."""
        self.check()
        with self._noting_faults():
            if self.is_full:
                raise CapReachedError("RECEIVER_SPOOL_MAX_BYTES is reached; events have to be drained first")
            self._bound_log(self._budget.log // 2)
            with self._adding as transaction:
                transaction.execute("INSERT INTO probe VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET times = times + 1")

    def oldest(self, limit: int, table: str = "entries", after: int = 0) -> list[Spooled]:
        """Return the oldest entries behind a place, in the order in which they were added, as many as memory allows."""
        query = f"SELECT seq, {COLUMNS} FROM {table} WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 our own names
        found: list[Spooled] = []
        room = self._budget.read
        start = max(after, self._skip_through, self._published_through) if table == "entries" else after
        with self._noting_faults(), closing(self._draining.execute(query, (start, limit))) as rows:
            for seq, *row in rows:
                entry = entry_of(*row)
                room -= len(entry.data)
                if found and room < 0:
                    break
                found.append(Spooled(seq, entry))
        return found

    def retry(self) -> None:
        """Read again what was skipped: by now its topic may take it, or the disk its removal."""
        self._skip_through = 0

    def remove(self, spooled: list[Spooled], table: str = "entries", *, all_of_them: bool = True) -> None:
        """Forget entries that are safe elsewhere and, if they are all, what is in front of them.

        A full disk has no room for the log of a removal. Then the place is remembered; if entries in between are safe
        nowhere, the others are skipped for now, and found to be duplicates later.
        """
        try:
            with self._noting_faults(), self._draining as transaction:
                self._bound_log()
                transaction.executemany(_DELETE.format(table), runs([one.seq for one in spooled]))
        except sqlite3.OperationalError:
            if table != "entries":
                return
            if all_of_them and not self._skip_through:
                self._published_through = spooled[-1].seq
            else:
                self._skip_through = spooled[-1].seq

    def park(self, spooled: list[Spooled]) -> None:
        """Put entries aside that their topic does not take, so that they do not hold up the others.

        Removed first: a file at its cap has room for them only where they were. If that fails they stay, skipped.
        """
        try:
            with self._noting_faults(), self._draining as transaction:
                self._bound_log()
                transaction.executemany(_DELETE.format("entries"), runs([one.seq for one in spooled]))
                transaction.executemany(_INSERT.format("parked"), (row_of(one.entry) for one in spooled))
        except sqlite3.OperationalError:
            # Only up to the last of them: with everything behind it removed, the next entry gets the place behind it.
            self._skip_through = max(self._skip_through, spooled[-1].seq)

    def count(self) -> int:
        """Return how many entries there are. Exact but for gaps: rows leave from the front."""
        total = 0
        for table, after in (("entries", self._published_through), ("parked", 0)):
            # Two look-ups: SQLite answers min and max together by reading the whole table (8 ms for 100,000 events).
            query = f"SELECT (SELECT min(seq) FROM {table} WHERE seq > ?), (SELECT max(seq) FROM {table})"  # noqa: S608 our own names
            with self._noting_faults():
                first, last = self._draining.execute(query, (after,)).fetchone()
            total += 0 if first is None else last - first + 1
        return total

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left in a file that takes disk space: as a whole it can go even from a full disk."""
        return self.count() == 0 and (self._published_through > 0 or self.size() > _MAX_EMPTY)

    def size(self) -> int:
        """Return the bytes on disk, those of the write-ahead log included."""
        return sum(path.stat().st_size for path in self.path.parent.glob(self.path.name + "*"))

    def check(self) -> None:
        """Raise MovedError when one of the files or the lock has left the folder, and the fault once there is one."""
        self._check_identity()
        if self.fault is not None:
            raise self.fault.with_traceback(None)  # else it collects the frames of every caller

    def remaining(self) -> tuple[sqlite3.Connection, int]:
        """Return the connection that reads what is left, wherever the file's name leads, and the place to read from."""
        return self._draining, self._published_through

    def set_suspect(self) -> Path:
        """Leave the file to recovery, which copies what reads; return its new path. Raises OSError."""
        suspect = mark_suspect(self.path)
        self.close()
        return suspect

    def discard(self) -> None:
        """Remove the files, which hold nothing that is needed. Raises MovedError when they are others by now."""
        with closing(self):
            self._check_identity()
            remove(self.path)

    def close(self) -> None:
        """Close, and let others have the file."""
        self._adding.close()
        self._draining.close()
        self._lock.close()

    def _open(self, *, to_drain: bool) -> None:
        refuse_emptied(self.path)
        with self.path.open("ab"):  # Python says why the file cannot be written, SQLite only that
            pass
        # Two connections: what is added must be on the disk; what was drained may come back, since it adds nothing.
        self._adding = self._connect()
        try:
            self._prepare(self._adding, "FULL")
            self._draining = self._connect()
            self._prepare(self._draining, "NORMAL")
        except sqlite3.Error as error:
            self._adding.close()
            if not (to_drain and is_index_error(error)):
                raise
            self._adding = self._draining = self._connect()
            # On a full disk: with no other connection SQLite keeps the log's index in memory.
            self._adding.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._identity = FileIdentity.of(parts(self.path))

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, check_same_thread=False, timeout=1)

    def _prepare(self, connection: sqlite3.Connection, synchronous: str) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(f"PRAGMA max_page_count={self._budget.data // PAGE}")
        connection.execute("PRAGMA wal_autocheckpoint=0")  # see _checkpoint
        connection.execute(f"PRAGMA journal_size_limit={self._budget.checkpoint}")
        connection.executescript(SCHEMA)

    def _check_identity(self) -> None:
        self._identity.check()
        if not is_open_at(lock_of(self.path), self._lock.fileno()):
            raise MovedError(lock_of(self.path))

    def _take_room(self, needed: int) -> None:
        """Raise CapReachedError if so many bytes may not fit. Measured anew only when the last measure is used up."""
        if self._room_left < needed:
            self._room_left = self._room()
            if self._room_left < needed:
                raise CapReachedError("RECEIVER_SPOOL_MAX_BYTES leaves no room for them", is_full=self.is_full)
        self._room_left -= needed

    def _room(self) -> int:
        """Return the bytes that the file may still take, its unused pages included."""
        (pages,) = self._adding.execute("PRAGMA page_count").fetchone()
        (unused,) = self._adding.execute("PRAGMA freelist_count").fetchone()
        return self._budget.data - PAGE * int(pages - unused)

    def _bound_log(self, needed: int = 0) -> None:
        """Copy the log into the file once it has grown. SQLite does so by itself too, but hides the errors.

        Raises CapReachedError when it has no room for so many bytes all the same.
        """
        length = log_bytes(self.path)
        if length > self._budget.checkpoint:
            self._checkpoint("PASSIVE")
        if length + needed > self._budget.log:
            self._checkpoint("TRUNCATE")
            if log_bytes(self.path) + needed > self._budget.log:
                raise CapReachedError("another program reads the file, so that its log cannot be emptied")

    def _checkpoint(self, mode: str) -> None:
        try:
            self._adding.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.OperationalError as error:
            if makes_suspect(error):
                raise
            # Busy, or the disk is full: the log keeps what was not copied.

    @contextmanager
    def _noting_faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self.fault is None and makes_suspect(error):
                self.fault = error
            raise


def lock_file(path: Path, max_bytes: int, *, to_drain: bool = False) -> SpoolFile | None:
    """Open a spool file unless a living process holds it. A damaged one is left to recovery.

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
    """Take the first spool file that nobody holds and that opens. Raises OSError and sqlite3.Error.

    ``but``: not this one if it exists. A file that has only lost its log would be damaged by another log.
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

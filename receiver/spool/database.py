"""The SQLite database of a spool file: two connections, and a cap on the sum of its files.

WAL mode with ``synchronous=FULL``: a commit that has returned is on the disk
(https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from receiver.spool.budget import PAGE, Budget
from receiver.spool.directory import log_bytes, parts, refuse_emptied
from receiver.spool.errors import CapReachedError, is_index_error, makes_suspect
from receiver.spool.file_identity import FileIdentity
from receiver.spool.rows import SCHEMA

if TYPE_CHECKING:
    from pathlib import Path


class Database:
    """Opens a database, and keeps it below its cap.

    ``adding`` syncs each commit: an added event must be on the disk. ``draining`` does not: after a power cut a deleted
    event may come back, and is then published again.
    """

    def __init__(self, path: Path, max_bytes: int, *, to_drain: bool) -> None:
        """Open or create the database. Raises OSError and sqlite3.Error.

        ``max_bytes`` bounds the sum of its files. With ``to_drain`` it opens on a full disk as well.
        """
        self.path = path
        self.budget = Budget(max_bytes)
        self._bytes_left = 0
        self._yielded = 0
        refuse_emptied(path)
        with path.open("ab"):  # Python says why the file cannot be written; SQLite does not
            pass
        self.adding = self._connect()
        try:
            self._prepare(self.adding, "FULL")
            self.draining = self._connect()
            self._prepare(self.draining, "NORMAL")
        except sqlite3.Error as error:
            self.adding.close()
            if not (to_drain and is_index_error(error)):
                raise
            self.adding = self.draining = self._connect()
            # On a full disk: a single, exclusive connection keeps the log's index in memory.
            self.adding.execute("PRAGMA locking_mode=EXCLUSIVE")
        self.identity = FileIdentity.of(parts(path))

    def bytes_left(self) -> int:
        """Return the bytes that the database may still take, its unused pages included."""
        (pages,) = self.adding.execute("PRAGMA page_count").fetchone()
        (unused,) = self.adding.execute("PRAGMA freelist_count").fetchone()
        return self.budget.data - self._yielded - PAGE * int(pages - unused)

    def yield_bytes(self, number: int) -> None:
        """Leave so many bytes of the cap to other files."""
        if number != self._yielded:
            self._yielded = number
            self._bytes_left = 0  # measured with the next event

    @property
    def is_full(self) -> bool:
        """Whether the cap leaves too little. A full file needs more to resume than another one needs to go on."""
        return self.bytes_left() < self.budget.resume

    def reserve(self, needed: int) -> None:
        """Raise CapReachedError if so many bytes may not fit. Measures again only when the last measure is used up."""
        if self._bytes_left < needed:
            self._bytes_left = self.bytes_left()
            if self._bytes_left < needed:
                raise CapReachedError("RECEIVER_SPOOL_MAX_BYTES leaves no room for them", is_full=self.is_full)
        self._bytes_left -= needed

    def bound_log(self, needed: int = 0) -> None:
        """Copy the log into the database once it has grown. SQLite's automatic checkpoint would hide the errors.

        Raises CapReachedError if the log still has no room for ``needed`` bytes.
        """
        length = log_bytes(self.path)
        if length > self.budget.checkpoint:
            self._checkpoint("PASSIVE")
        if length + needed > self.budget.log:
            self._checkpoint("TRUNCATE")
            if log_bytes(self.path) + needed > self.budget.log:
                raise CapReachedError("another program reads the file, so that its log cannot be emptied")

    def close(self) -> None:
        """Close both connections."""
        self.adding.close()
        self.draining.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, check_same_thread=False, timeout=1)

    def _prepare(self, connection: sqlite3.Connection, synchronous: str) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(f"PRAGMA max_page_count={self.budget.data // PAGE}")
        connection.execute("PRAGMA wal_autocheckpoint=0")  # see bound_log
        connection.execute(f"PRAGMA journal_size_limit={self.budget.checkpoint}")
        connection.executescript(SCHEMA)

    def _checkpoint(self, mode: str) -> None:
        try:
            self.adding.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.OperationalError as error:
            if makes_suspect(error):
                raise
            # Busy, or the disk is full: the log keeps what was not copied.

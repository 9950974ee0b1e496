"""Classifies the errors of a spool file by SQLite's codes (https://www.sqlite.org/rescode.html)."""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

#: The content of the file is wrong. Other errors are temporary (busy, full) or concern the disk.
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG)
#: The index of the log. SQLite can always rebuild it; a full disk has no space for it.
_INDEX: Final = (
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMLOCK,
    sqlite3.SQLITE_IOERR_SHMMAP,
)
#: Errors of the disk; any other error at the start is a mistake in the configuration.
_DISK_CODES: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY)
_DISK_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


class DamagedError(sqlite3.DatabaseError):
    """A file, or a row of it, differs from what was written."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    sqlite_errorname = "SQLITE_CORRUPT"


class CapReachedError(sqlite3.OperationalError):
    """The files would exceed RECEIVER_SPOOL_MAX_BYTES."""

    sqlite_errorcode = sqlite3.SQLITE_FULL
    sqlite_errorname = "SQLITE_FULL"

    def __init__(self, message: str, *, is_full: bool = True) -> None:
        """``is_full``: fewer entries would not fit either."""
        super().__init__(message)
        self.is_full = is_full


def primary_code(error: Exception) -> int:
    """Return SQLite's primary result code; 0 for an error that is not SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_damage(error: Exception) -> bool:
    """Tell whether the file is damaged, so that a retry fails as well."""
    return primary_code(error) in _DAMAGE


def is_index_error(error: Exception) -> bool:
    """Tell whether only the log's index failed, which contains no events."""
    return getattr(error, "sqlite_errorcode", 0) in _INDEX


def makes_suspect(error: Exception) -> bool:
    """Tell whether a file can no longer be trusted: it is damaged, or an I/O error hit one of its commits.

    After a failed fsync the kernel considers the pages clean (https://lwn.net/Articles/752063/). The unwritten page
    stays a hole in the log. SQLite replays the log up to the first hole, so every later commit would be lost.
    A full disk (SQLITE_FULL) leaves no hole.
    """
    return is_damage(error) or (primary_code(error) == sqlite3.SQLITE_IOERR and not is_index_error(error))


def is_disk_fault(error: Exception) -> bool:
    """Tell whether the disk fails or is full. Otherwise the configuration names the wrong folder."""
    if isinstance(error, OSError):
        return error.errno in _DISK_ERRNOS
    return primary_code(error) in _DISK_CODES

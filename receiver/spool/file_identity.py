"""Detects that an open file was moved, replaced or deleted.

Such a file still takes writes and syncs; its content ends with the process.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class MovedError(sqlite3.OperationalError):
    """A file has left its folder: a write to it ends with the process."""

    def __init__(self, path: Path) -> None:
        """Name the first file that is missing or was replaced."""
        super().__init__(f"{path} was removed or replaced while it was in use")


class FileIdentity:
    """Which inodes some paths led to. While we hold an inode open, no other file gets its number."""

    def __init__(self, known: dict[Path, tuple[int, int]]) -> None:
        """Take the device and the inode of each path."""
        self._known = known

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Self:
        """Look at those of the files that exist, once they are open."""
        return cls({path: _inode(path.stat()) for path in paths if path.exists()})

    def check(self) -> None:
        """Raise MovedError unless each path still leads to its file: 2 µs a file, beside a sync of milliseconds."""
        for path, known in self._known.items():
            if not _leads_to(path, known):
                raise MovedError(path)


def is_open_at(path: Path, descriptor: int) -> bool:
    """Tell whether a path leads to an open file."""
    return _leads_to(path, _inode(os.fstat(descriptor)))


def _leads_to(path: Path, known: tuple[int, int]) -> bool:
    try:
        return _inode(path.stat()) == known
    except OSError:
        return False


def _inode(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino

"""Detects that an open file was moved, replaced or deleted.

Writes and syncs to such a file still succeed, but its content is gone when the process ends.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class MovedError(sqlite3.OperationalError):
    """A file has left its folder: its content is gone when the process ends."""

    def __init__(self, path: Path) -> None:
        """``path`` is the first one that is missing or was replaced."""
        super().__init__(f"{path} was removed or replaced while it was in use")


class FileIdentity:
    """The inodes of some open files. No other file gets the number of an inode that is held open."""

    def __init__(self, known: dict[Path, tuple[int, int]]) -> None:
        """``known``: device and inode of each path."""
        self._known = known

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Self:
        """Read the inodes of the files that exist. Call it after opening them."""
        return cls({path: _inode(path.stat()) for path in paths if path.exists()})

    def check(self) -> None:
        """Raise MovedError unless each path still leads to its file. Takes 2 µs a file; a sync takes milliseconds."""
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

"""Whether what we hold open is still what others find under its name.

A file that was removed, or whose folder was, takes writes and syncs like any other; they end with the process.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class MovedError(sqlite3.OperationalError):
    """The file is no longer in its folder: what is written to it ends with the process."""

    def __init__(self, path: Path) -> None:
        """Name the first file that is missing, or is another one by now."""
        super().__init__(f"{path} was removed or replaced while it was in use")


class Identity:
    """Which files there were under some names. An inode that we hold open is given to no other file."""

    def __init__(self, known: dict[Path, tuple[int, int]]) -> None:
        """Take the device and the inode of each path."""
        self._known = known

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Self:
        """Look at those of the files that there are, once they are open."""
        return cls({path: _found(path.stat()) for path in paths if path.exists()})

    def has(self, path: Path) -> bool:
        """Tell whether a name still leads to its file."""
        return path in self._known and _is(path, self._known[path])

    def check(self) -> None:
        """Raise MovedError unless each name still leads to its file: 2 µs a file, beside a sync of milliseconds."""
        for path in self._known:
            if not self.has(path):
                raise MovedError(path)


def is_open_at(path: Path, descriptor: int) -> bool:
    """Tell whether an open file is the one that others find under a name."""
    return _is(path, _found(os.fstat(descriptor)))


def _is(path: Path, known: tuple[int, int]) -> bool:
    try:
        return _found(path.stat()) == known
    except OSError:
        return False


def _found(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino

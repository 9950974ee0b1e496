"""Counts the events in spool files that no living process holds.

Their processes have ended: replaced by a reload while Redis is away, for example. A living process drains these files
once Redis takes writes; until then no process owns their events. Blocking: use it in a thread.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from receiver.spool.directory import lock, parts, spool_files
from receiver.spool.recovery import read_only

if TYPE_CHECKING:
    from pathlib import Path


class Contents(NamedTuple):
    """Events, and bytes on the disk."""

    events: int
    bytes: int


#: What changes with every write to a file: size and time of its parts.
_Version = tuple[tuple[int, int], ...]
_COUNT = "SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM {}"


class UnownedFiles:
    """The files of a folder that no process holds. A file that has not changed is not read again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counted: dict[Path, tuple[_Version, int]] = {}

    def measure(self) -> Contents:
        """Return what the files hold. An unreadable file counts by its bytes alone. Raises OSError."""
        counted: dict[Path, tuple[_Version, int]] = {}
        size = 0
        for path in spool_files(self._folder):
            held = lock(path)  # for as long as it is read: no other process drains and removes it meanwhile
            if held is None:
                continue
            with held:
                version = _version(path)
                before = self._counted.get(path)
                counted[path] = before if before is not None and before[0] == version else (version, _events(path))
                size += sum(part_size for part_size, _ in version)
        self._counted = counted
        return Contents(sum(events for _, events in counted.values()), size)


def _version(path: Path) -> _Version:
    states = [part.stat() for part in parts(path)[:2] if part.exists()]  # the index of the log changes when it is read
    return tuple((state.st_size, state.st_mtime_ns) for state in states)


def _events(path: Path) -> int:
    """Return the number of events, but for gaps: rows are deleted from the front."""
    try:
        with closing(read_only(path)) as database:
            return sum(database.execute(_COUNT.format(table)).fetchone()[0] for table in ("entries", "parked"))
    except sqlite3.Error:  # damaged: the drain marks it suspect, and recovery copies what can be read
        return 0

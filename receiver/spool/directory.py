"""The folder of the spool: the names of its files, and their locks.

| name                                    | meaning                                                              |
|-----------------------------------------|----------------------------------------------------------------------|
| ``000.sqlite`` with ``-wal``, ``-shm``  | a spool file: events that Redis has not taken yet                    |
| ``000.lock``                            | held by the process that uses the file; free if no process does      |
| ``000.suspect-20261126T080000Z.sqlite`` | damaged, or hit by an I/O error: takes no events, not copied yet     |
| ``000.damaged-20261126T080000Z.sqlite`` | the readable rows were copied; kept for an operator                  |
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from receiver.spool.errors import DamagedError
from receiver.spool.file_identity import is_open_at

if TYPE_CHECKING:
    from io import TextIOWrapper
    from pathlib import Path


def file_of(folder: Path, number: int) -> Path:
    """Return the path of a spool file."""
    return folder / f"{number:03d}.sqlite"


def spool_files(folder: Path) -> list[Path]:
    """Return the spool files, by number. Files with other names are ignored."""
    return sorted(folder.glob("[0-9][0-9][0-9].sqlite"))


def suspect_files(folder: Path) -> list[Path]:
    """Return the files that recovery has not finished, by number and time."""
    return sorted(folder.glob("[0-9][0-9][0-9].suspect-*.sqlite"))


def files_set_aside(folder: Path) -> list[Path]:
    """Return the files that recovery has finished, by number and time."""
    return sorted(folder.glob("[0-9][0-9][0-9].damaged-*.sqlite"))


def lock_of(path: Path) -> Path:
    """Return the path of a spool file's lock."""
    return path.with_suffix(".lock")


def parts(path: Path) -> list[Path]:
    """Return the files of a database, in the order to remove them: SQLite discards a log without its file."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def remove(path: Path) -> None:
    """Remove a database. Raises OSError."""
    for part in parts(path):
        part.unlink(missing_ok=True)


def disk_bytes(path: Path) -> int:
    """Return the bytes of a database on disk, its log included. A file that was just removed has none."""
    total = 0
    for part in parts(path):
        with suppress(FileNotFoundError):
            total += part.stat().st_size
    return total


def log_bytes(path: Path) -> int:
    """Return the length of a database's write-ahead log."""
    try:
        return os.stat(f"{path}-wal").st_size  # noqa: PTH116 half as long as pathlib's, at each write
    except FileNotFoundError:
        return 0


def refuse_emptied(path: Path) -> None:
    """Raise DamagedError for a file that was truncated to nothing: SQLite would discard its log on opening."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:  # its owner has just removed it
        return
    if size == 0 and log_bytes(path) > 0:
        raise DamagedError("the file is empty, but its log is not")


def mark_suspect(path: Path) -> Path:
    """Rename a spool file so that no process adds to it, and return its new path. The caller holds its lock.

    An open database stays readable. Closing it writes nothing, since SQLite notices the move.
    """
    return _rename(path, path.stem, "suspect")


def set_aside(path: Path) -> Path:
    """Rename a suspect file after the copy, and return its new path. The caller holds its lock."""
    aside = _rename(path, path.name[:3], "damaged")
    lock_of(path).unlink(missing_ok=True)
    return aside


def lock(path: Path) -> TextIOWrapper | None:
    """Lock a spool file unless a living process holds it. Closing the lock frees it. Raises OSError."""
    held = lock_of(path).open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return None
    if not is_open_at(lock_of(path), held.fileno()):  # deleted in between: the next process would lock another file
        held.close()
        return None
    _finish_marking(path)
    return held


def in_use(path: Path) -> bool:
    """Tell whether a living process holds a file."""
    try:
        with lock_of(path).open() as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def make_folder(folder: Path) -> None:
    """Create a folder that survives a power cut: SQLite syncs the folder, but not the parents that name it."""
    if folder.is_dir():
        return
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    # The data folder may be new as well: the embedded Valkey creates it a moment before, and does not sync it.
    for parent in {path.parent for path in (folder, folder.parent, *created)}:
        _sync(parent)


def _rename(path: Path, number: str, word: str) -> Path:
    """Rename all files of a database, its log first, so that the new name never exists without the log."""
    names = (path.with_name(f"{number}.{word}-{_stamp(second)}.sqlite") for second in count(int(time.time())))
    target = next(name for name in names if not any(part.exists() for part in parts(name)))
    for part, new in reversed([*zip(parts(path), parts(target), strict=True)]):
        if part.exists():
            part.rename(new)
    _sync(path.parent)
    return target


def _finish_marking(path: Path) -> None:
    """Rename a database after its log, where a crash stopped ``mark_suspect`` between the two.

    Opened without its log it would have lost rows. The caller holds the lock.
    """
    for log in path.parent.glob(f"{path.stem}.suspect-*.sqlite-wal"):
        suspect = log.with_name(log.name.removesuffix("-wal"))
        if path.exists() and not suspect.exists():
            path.rename(suspect)
            _sync(path.parent)


def _stamp(second: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

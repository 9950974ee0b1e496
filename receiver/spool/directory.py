"""The folder of the spool: which files there are, how they are called, and who holds them.

A process holds a lock on the file that it uses; a file whose lock is free belongs to nobody any more.
"""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

from receiver.spool.file_identity import is_open_at

if TYPE_CHECKING:
    from io import TextIOWrapper
    from pathlib import Path


def file_of(folder: Path, number: int) -> Path:
    """Return the path of a spool file."""
    return folder / f"{number:03d}.sqlite"


def spool_files(folder: Path) -> list[Path]:
    """Return the spool files that there are, in the order of their numbers. Files of other names are nothing to us."""
    return sorted(folder.glob("[0-9][0-9][0-9].sqlite"))


def files_set_aside(folder: Path) -> list[Path]:
    """Return the damaged files that were set aside, in the order of their numbers and times."""
    return sorted(folder.glob("[0-9][0-9][0-9].damaged-*.sqlite"))


def lock_of(path: Path) -> Path:
    """Return the path of a spool file's lock."""
    return path.with_suffix(".lock")


def parts(path: Path) -> list[Path]:
    """Return what a file consists of, in the order to remove it: SQLite discards a log without its file."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def lock(path: Path) -> TextIOWrapper | None:
    """Lock a spool file if no living process holds it. Closing the lock frees it. Raises OSError."""
    held = lock_of(path).open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return None
    if not is_open_at(lock_of(path), held.fileno()):  # removed in between: the next one would lock another
        held.close()
        return None
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

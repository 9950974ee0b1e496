"""The way out of a damaged spool file: what reads is copied to where it is drained, and the file is set aside.

It keeps its number until all is copied. So whoever ends before that leaves a file that the next one drains like any
other, up to the damage, and salvages anew; one that is set aside has given all it could. What is copied twice is
published once.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING, Any

from receiver.delivery.copying import Copying
from receiver.spool.recovery import Readable, is_damage, refuse_emptied
from receiver.spool.file import PAGE, SCHEMA
from receiver.spool.directory import lock, parts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from io import TextIOWrapper
    from pathlib import Path
    from typing import Self

    from receiver.events import Entry


class Salvage:
    """Copies what a damaged file holds, and moves it out of the way. Blocking: use it in a thread."""

    def __init__(self, path: Path, held: TextIOWrapper, add: Callable[[list[Entry]], None]) -> None:
        """Take the file, its lock, which is held to the end, and what makes entries durable elsewhere."""
        self._path = path
        self._lock = held
        if _begins_damaged(path):
            with path.open("r+b") as file:
                file.write(_first_page())
        self._database = sqlite3.connect(path, check_same_thread=False, timeout=1)
        self.copying = Copying(Readable(self._database), add)

    @classmethod
    def begin(cls, path: Path, add: Callable[[list[Entry]], None]) -> Self | None:
        """Take a file; None if another process does, or has done. Raises OSError and sqlite3.Error."""
        held = lock(path)
        if held is None:
            return None
        try:
            if path.exists():
                return cls(path, held, add)
        except BaseException:
            held.close()
            raise
        held.close()
        return None

    def set_aside(self) -> Path:
        """Give the file a name that no process opens, and return it.

        Its log goes first: there is never a file set aside without it. A process that is killed in between leaves
        a log whose events are all copied, and a file that is drained or salvaged again.
        """
        self._database.close()
        aside = _free_name(self._path)
        for part, target in reversed([*zip(parts(self._path), parts(aside), strict=True)]):
            if part.exists():
                part.rename(target)
        return aside

    def close(self) -> None:
        """Let others have the number."""
        self._database.close()
        self._lock.close()


async def salvage(
    path: Path,
    run: Callable[..., Awaitable[Any]],
    add: Callable[[list[Entry]], None],
    make_room: Callable[[], Awaitable[object]],
) -> tuple[Path, Copying] | None:
    """Salvage a file: return its name from now on, and what was copied; None if another process does it, or has.

    ``run`` does blocking work in a thread; ``make_room`` drains what was copied before there is more. Raises OSError
    and sqlite3.Error.
    """
    way_out = await run(Salvage.begin, path, add)
    if way_out is None:
        return None
    try:
        while await run(way_out.copying.step):
            await make_room()
        return await run(way_out.set_aside), way_out.copying
    finally:
        await run(way_out.close)


def _first_page() -> bytes:
    """Return what each spool file begins with: SQLite's header and the schema (https://www.sqlite.org/fileformat.html).

    The size stands for unknown, so that the file's own counts, and the list of unused pages is empty: it is to be read.
    """
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(f"PRAGMA page_size = {PAGE}; {SCHEMA}")
        page = bytearray(database.serialize()[:PAGE])
    page[18:20] = b"\2\2"  # read and written with a write-ahead log
    page[28:32] = bytes(4)
    return bytes(page)


def _begins_damaged(path: Path) -> bool:
    """Tell whether the first page does not read, without which SQLite reads nothing of all others."""
    try:
        refuse_emptied(path)
        with closing(sqlite3.connect(path, timeout=1)) as database:
            database.execute("PRAGMA writable_schema = ON")  # else a file that was cut would seem to be one of these
            database.execute("SELECT name FROM sqlite_schema").fetchall()
    except sqlite3.Error as error:
        if is_damage(error):
            return True
        raise
    return False


def _free_name(path: Path) -> Path:
    """Return a name with the time, or with the first second from then on that none has yet."""
    names = (path.with_name(f"{path.stem}.damaged-{_stamp(second)}.sqlite") for second in count(int(time.time())))
    return next(name for name in names if not any(part.exists() for part in parts(name)))


def _stamp(second: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))

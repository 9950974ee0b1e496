"""The spool: events on local disk that Redis has not taken yet.

SQLite in WAL mode with ``synchronous=FULL``: a commit that has returned is on the disk
(https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous). All its work is done in one
thread, so the event loop never waits for a disk. Each process writes to a file of its own and holds a lock on it;
a file whose lock is free belongs to nobody any more, and whoever finds it drains it.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from receiver import metrics
from receiver.delivery.groups import NotTakenError
from receiver.events import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import TextIOWrapper
    from pathlib import Path

T = TypeVar("T")
_PAGE: Final = 4096
#: More processes than this cannot share a folder.
_MOST_FILES: Final = 256
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, topic TEXT, id BLOB, data BLOB);
CREATE TABLE IF NOT EXISTS parked (seq INTEGER PRIMARY KEY, topic TEXT, id BLOB, data BLOB);
CREATE TABLE IF NOT EXISTS probe (one INTEGER PRIMARY KEY, times INTEGER);
"""


class Spooled(NamedTuple):
    """An entry with its place in the file."""

    seq: int
    entry: Entry


class SpoolFile:
    """One SQLite file, locked. Blocking: use it in a thread."""

    def __init__(self, path: Path, lock: TextIOWrapper, max_bytes: int) -> None:
        """Open or create the file. Raises sqlite3.Error."""
        self.path = path
        self._lock = lock
        self._max_bytes = max_bytes
        # Two connections: what is added must be on the disk; what was drained may come back after a power cut, since
        # publishing it again adds nothing.
        self._adding = self._connect("FULL")
        self._adding.executescript(_SCHEMA)
        self._draining = self._connect("NORMAL")

    def add(self, entries: list[Entry]) -> None:
        """Append entries; they are on the disk when this returns. Raises sqlite3.Error, and then none is."""
        with self._adding as transaction:
            transaction.executemany("INSERT INTO entries (topic, id, data) VALUES (?, ?, ?)", map(_row, entries))

    def probe(self) -> None:
        """Write and sync something of no weight. Raises sqlite3.Error."""
        with self._adding as transaction:
            transaction.execute("INSERT INTO probe VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET times = times + 1")

    def oldest(self, limit: int, table: str = "entries") -> list[Spooled]:
        """Return the oldest entries, in the order in which they were added."""
        rows = self._draining.execute(f"SELECT seq, topic, id, data FROM {table} ORDER BY seq LIMIT ?", (limit,))  # noqa: S608 our own names
        return [Spooled(seq, Entry(topic, id_, data)) for seq, topic, id_, data in rows]

    def remove(self, spooled: list[Spooled], table: str = "entries") -> None:
        """Forget entries that are safe elsewhere."""
        with self._draining as transaction:
            transaction.executemany(f"DELETE FROM {table} WHERE seq = ?", [(one.seq,) for one in spooled])  # noqa: S608 our own names

    def park(self, spooled: list[Spooled]) -> None:
        """Put entries aside that their topic does not take, so that they do not hold up the others."""
        with self._draining as transaction:
            rows = [_row(one.entry) for one in spooled]
            transaction.executemany("INSERT INTO parked (topic, id, data) VALUES (?, ?, ?)", rows)
            transaction.executemany("DELETE FROM entries WHERE seq = ?", [(one.seq,) for one in spooled])

    def count(self) -> int:
        """Return how many entries there are. Exact but for gaps: rows leave from the front."""
        total = 0
        for table in ("entries", "parked"):
            first, last = self._draining.execute(f"SELECT min(seq), max(seq) FROM {table}").fetchone()  # noqa: S608 our own names
            total += 0 if first is None else last - first + 1
        return total

    def by_topic(self) -> dict[str, int]:
        """Return how many entries wait for each topic. Reads the whole file."""
        query = "SELECT topic, count(*) FROM (SELECT topic FROM entries UNION ALL SELECT topic FROM parked) GROUP BY 1"
        return dict(self._draining.execute(query).fetchall())

    def size(self) -> int:
        """Return the bytes on disk, those of the write-ahead log included."""
        return sum(path.stat().st_size for path in self.path.parent.glob(self.path.name + "*"))

    def shrink(self) -> None:
        """Give the disk space of an emptied file back."""
        if self.count() == 0 and self.size() > 1 << 20:
            self._draining.execute("VACUUM")
            self._draining.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close, and let others have the file."""
        self._adding.close()
        self._draining.close()
        self._lock.close()

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, check_same_thread=False, timeout=1)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(f"PRAGMA max_page_count={max(64, self._max_bytes // _PAGE)}")
        return connection


def _row(entry: Entry) -> tuple[str, bytes, bytes]:
    return entry.topic, entry.id, entry.data


def lock_file(folder: Path, number: int, max_bytes: int) -> SpoolFile | None:
    """Open the spool file of this number if no living process holds it. Raises OSError and sqlite3.Error."""
    path = folder / f"{number:03d}.sqlite"
    lock = path.with_suffix(".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    try:
        return SpoolFile(path, lock, max_bytes)
    except sqlite3.Error:
        lock.close()
        raise


def free_files(folder: Path, max_bytes: int) -> Iterator[SpoolFile]:
    """Lock and open, one after the other, the spool files that no living process holds. The caller closes them."""
    for path in sorted(folder.glob("*.sqlite")):
        spool_file = lock_file(folder, int(path.stem), max_bytes)
        if spool_file is not None:
            yield spool_file


class Spool:
    """The spool of this process, for the event loop."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Take the folder that all processes of this machine share, and the most bytes for this one's file."""
        self.folder = folder
        self.max_bytes = max_bytes
        self.writable = True
        self.events = 0
        self._file: SpoolFile | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")

    async def open(self) -> None:
        """Take a file and probe it. Raises OSError or sqlite3.Error when the folder cannot be written to."""
        self._file = await self.run(self._take_file)
        await self.run(self._file.probe)
        await self.measure()

    async def close(self) -> None:
        """Close the file; what is in it is found at the next start."""
        if self._file is not None:
            await self.run(self._file.close)
        self._thread.shutdown()

    @property
    def file(self) -> SpoolFile:
        """The file of this process."""
        if self._file is None:
            raise RuntimeError("the spool is not open")
        return self._file

    async def run(self, work: Callable[..., T], *args: Any) -> T:  # noqa: ANN401 what the work takes
        """Do blocking work in the spool's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def write(self, entries: list[Entry], _since: float) -> Mapping[str, NotTakenError]:
        """Make entries durable. Raises NotTakenError when the disk does not take them."""
        try:
            await self.run(self.file.add, entries)
        except sqlite3.Error as error:
            self.writable = False
            reason = getattr(error, "sqlite_errorname", type(error).__name__)
            metrics.SPOOL_FAILURES.labels(reason).inc()
            raise NotTakenError(reason, f"the spool in {self.folder} cannot be written: {error}") from error
        self.writable = True
        self.events += len(entries)
        metrics.SPOOLED.inc(len(entries))
        return {}

    async def probe(self) -> bool:
        """Find out whether the disk takes writes."""
        try:
            await self.run(self.file.probe)
        except sqlite3.Error:
            self.writable = False
        else:
            self.writable = True
        return self.writable

    async def measure(self) -> None:
        """Look at the file and set the gauges."""
        self.events = await self.run(self.file.count)
        metrics.SPOOL_EVENTS.set(self.events)
        metrics.SPOOL_BYTES.set(await self.run(self.file.size))

    def _take_file(self) -> SpoolFile:
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in range(_MOST_FILES):
            spool_file = lock_file(self.folder, number, self.max_bytes)
            if spool_file is not None:
                return spool_file
        raise OSError(f"more than {_MOST_FILES} processes use {self.folder}")

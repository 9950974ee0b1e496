"""The spool: events on local disk that Redis has not taken yet.

All its work is done in one thread, so the event loop never waits for a disk. Each process writes to a file of its own.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from receiver import metrics
from receiver.delivery.spool_file import SpoolFile, lock_file
from receiver.errors import NotTakenError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from receiver.events import Entry

T = TypeVar("T")
#: More processes than this cannot share a folder.
_MOST_FILES: Final = 256


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
        """Take a file and probe it. Raises SettingsError when there can be none.

        A disk that is full is no reason not to start: Redis may take events, and what is spooled wants to be drained.
        """
        try:
            self._file = await self.run(self._take_file)
        except (OSError, sqlite3.Error) as error:
            raise SettingsError.cannot_write(self.folder, error) from None
        await self.probe()
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
            try:
                spool_file = lock_file(self.folder, number, self.max_bytes)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                continue  # damaged; the drain says so, and a person has to look
            if spool_file is not None:
                return spool_file
        raise OSError(f"more than {_MOST_FILES} processes use {self.folder}")

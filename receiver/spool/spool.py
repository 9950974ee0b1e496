"""The spool: events on local disk that Redis has not taken yet.

All its work is done in one thread, so the event loop never waits for a disk. Each process writes to a file of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from receiver import metrics
from receiver.spool.recovery import is_damage
from receiver.delivery.refuge import Refuge
from receiver.spool.file import free_file
from receiver.errors import NotTakenError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from receiver.spool.file import SpoolFile
    from receiver.events import Entry
    from receiver.log import Logger

T = TypeVar("T")
#: Seconds that the end of the service waits for the copy of a file that was lost: nobody else could make it.
_LAST_COPY: Final = 10.0


class Spool:
    """The spool of this process, for the event loop."""

    def __init__(self, folder: Path, max_bytes: int, logger: Logger | None = None) -> None:
        """Take the folder that all processes of this machine share, and the most bytes for this one's file."""
        self.folder = folder
        self.max_bytes = max_bytes
        self.writable = True
        self.events = 0
        self._logger: Logger = logger or structlog.stdlib.get_logger("receiver")
        self._file: SpoolFile | None = None
        self._closed = False
        #: Files that were lost and are not copied yet: as a rule none, and then all is refused until they are.
        self._refuges: list[Refuge] = []
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
        if self._closed:
            return
        self._closed = True
        if self._file is not None:
            with contextlib.suppress(OSError, sqlite3.Error, TimeoutError):
                async with asyncio.timeout(_LAST_COPY):
                    await self._recover()
        for refuge in self._refuges:
            await self.run(refuge.lost.close)
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
        if self._refuges:
            # What was acknowledged goes first: until it is copied, only this process keeps it.
            raise NotTakenError("MovedError", f"the file of the spool in {self.folder} is being replaced")
        try:
            await self.run(self.add, entries)
        except sqlite3.Error as error:
            self.writable = False
            reason = getattr(error, "sqlite_errorname", type(error).__name__)
            metrics.SPOOL_FAILURES.labels(reason).inc()
            raise NotTakenError(reason, f"the spool in {self.folder} cannot be written: {error}") from error
        self.writable = True
        self.events += len(entries)
        metrics.SPOOLED.inc(len(entries))
        return {}

    async def check(self) -> bool:
        """Look whether the file is still in its folder and sound; return whether writes are taken as far as is known.

        Who only looked at writes would not see it while Redis takes them all.
        """
        try:
            await self.run(self.file.check)
        except sqlite3.Error:
            self.writable = False
        return self.writable

    async def probe(self) -> bool:
        """Find out whether the disk takes writes; if the file is damaged or has moved, take another one first."""
        try:
            await self._recover()
            await self.run(self.file.probe)
        except (OSError, sqlite3.Error) as error:
            self.file.suspect(error)
            self.writable = False
        else:
            self.writable = True
        return self.writable

    async def measure(self) -> None:
        """Look at the file and set the gauges. What stands in the way of that is left to those who need the file."""
        file = self.file
        try:
            self.events = await self.run(file.count)
            metrics.SPOOL_EVENTS.set(self.events)
            metrics.SPOOL_BYTES.set(await self.run(file.size))
        except (OSError, sqlite3.Error) as error:
            file.suspect(error)

    def add(self, entries: list[Entry]) -> None:
        """Make entries durable; blocking, for the spool's thread. Raises sqlite3.Error."""
        file = self.file
        try:
            file.add(entries)
        except sqlite3.Error as error:
            file.suspect(error)
            raise

    async def _recover(self) -> None:
        """Leave a file that is damaged or no longer in its folder. Goes on where it was interrupted."""
        try:
            await self.run(self.file.check)
        except sqlite3.Error as error:
            lost = self.file
            self._file = await self.run(self._take_file, lost.path)
            if is_damage(error):
                # It is nobody's from here on, and who drains the folder salvages what it holds.
                await self.run(lost.close)
                self._logger.warning("spool.damaged", error=str(error), file=lost.path.name)
            else:
                self._refuges.append(Refuge(lost, self.add))
                self._logger.error("spool.moved", error=str(error), file=str(self._file.path))  # noqa: TRY400 said in full
        while self._refuges:
            refuge = self._refuges[0]
            while await self.run(refuge.step):
                pass
            del self._refuges[0]
            await self.run(refuge.finish)
            self._logger.error("spool.copied", **refuge.copying.outcome, file=str(self.file.path))

    def _take_file(self, lost: Path | None = None) -> SpoolFile:
        _make(self.folder)
        return free_file(self.folder, self.max_bytes, lost)


def _make(folder: Path) -> None:
    """Create a folder that outlives a power cut: SQLite syncs what stands in it, and not where it stands."""
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for parent in (folder.parent, folder.parent.parent):
        descriptor = os.open(parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""The spool of this process: events on local disk that Redis has not taken yet.

One thread does all blocking work, so the event loop never waits for a disk. Each process writes to its own file.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from receiver import metrics
from receiver.errors import SettingsError, WriteFailedError
from receiver.spool.copies import Copies
from receiver.spool.directory import make_folder
from receiver.spool.errors import CapReachedError, is_disk_fault
from receiver.spool.file import free_file
from receiver.spool.file_identity import MovedError
from receiver.spool.unowned import Contents, UnownedFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from receiver.events import Entry
    from receiver.log import Logger
    from receiver.spool.file import SpoolFile

T = TypeVar("T")
#: Seconds between two checks of the file. A failed write triggers a check at once.
_HEAL_EVERY: Final = 1.0
#: Seconds between probes of a writable disk: while Redis takes all events, only a probe shows that the disk fails.
_PROBE_EVERY: Final = 10.0
#: Seconds between two looks at the files of ended processes.
_MEASURE_UNOWNED_EVERY: Final = 0.2
#: Seconds that a stop waits for the copy of a moved file, which no other process can read.
_LAST_COPY: Final = 10.0


class Spool:
    """The spool of this process, for the event loop."""

    def __init__(self, folder: Path, max_bytes: int, logger: Logger | None = None, *, processes: int = 1) -> None:
        """All processes of this machine share ``folder``, and ``processes`` of them one service.

        ``max_bytes`` bounds the files of this process, together with its share of the files that no process holds.
        """
        self.folder = folder
        self.max_bytes = max_bytes
        self._processes = processes
        metrics.SPOOL_MAX_BYTES.set(max_bytes)
        #: Events in the files of this process, and their bytes on the disk.
        self.events = 0
        self.bytes = 0
        #: What the files of ended processes hold; every process of the service measures the same.
        self.unowned = Contents(0, 0)
        #: The file of an ended process that this one drains now.
        self.adopted: SpoolFile | None = None
        #: Free space of the disk.
        self.free_bytes = 0
        #: The file that events are added to; None while the disk allows none.
        self.file: SpoolFile | None = None
        #: Why the spool takes no events; None while it does.
        self.problem: WriteFailedError | None = None
        self._logger: Logger = logger or structlog.stdlib.get_logger("receiver")
        self._closed = False
        self._failed = asyncio.Event()
        self._probed_at = 0.0
        self._measured_unowned_at = -math.inf
        self._unowned_files = UnownedFiles(folder)
        self._copies = Copies(folder, max_bytes, self.run, self.add, self._logger)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")

    @property
    def writable(self) -> bool:
        """Whether the last write or probe succeeded."""
        return self.problem is None

    async def open(self) -> None:
        """Open a file. Raises SettingsError when the configuration names a folder that cannot be used.

        The start succeeds with a full or failing disk: Redis may take the events, and ``keep_healthy`` retries.
        """
        try:
            self.file = await self.run(self._take_file)
            await self.run(self.file.probe)
        except (OSError, sqlite3.Error) as error:
            if not is_disk_fault(error):
                raise SettingsError.cannot_write(self.folder, error) from None
            self._refuse(error)
        else:
            self._accept()
        await self.measure()

    async def close(self) -> None:
        """Close the file. The next start drains it."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.file is not None:
                with contextlib.suppress(OSError, sqlite3.Error, TimeoutError):
                    async with asyncio.timeout(_LAST_COPY):
                        await self.run(self._check_file)
                        await self._copies.copy_moved()
            await self._copies.close()
            if self.file is not None:
                await self.run(self.file.close)
        finally:
            self._thread.shutdown(wait=False)  # a stalled disk must not hold up the stop

    @property
    def not_copied(self) -> int:
        """The number of moved files that are not copied yet."""
        return self._copies.moved

    async def run(self, work: Callable[..., T], *args: Any) -> T:  # noqa: ANN401 the arguments of the work
        """Do blocking work in the spool's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def write(self, entries: list[Entry], _since: float) -> Mapping[str, WriteFailedError]:
        """Make entries durable. Raises WriteFailedError when the disk does not take them."""
        problem = self.problem
        if problem is None:
            try:
                await self.run(self.add, entries)
            except sqlite3.Error as error:
                problem = self._describe(error)
                # A large batch may not fit below the cap although the next one does.
                if not isinstance(error, CapReachedError) or error.is_full:
                    self._refuse(error)
                    self._failed.set()
        if problem is not None:
            metrics.SPOOL_FAILURES.labels(problem.reason).inc()
            raise WriteFailedError(problem.reason, str(problem))
        self.events += len(entries)
        metrics.SPOOLED.inc(len(entries))
        return {}

    async def keep_healthy(self, changed: Callable[[], None]) -> None:
        """Call ``heal`` until cancelled. ``changed`` is called when ``writable`` has changed."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._failed.wait(), _HEAL_EVERY)
            self._failed.clear()
            before = self.writable
            try:
                await self.heal()
            except Exception:  # any: if this task ended, the spool would never take events again
                self._logger.exception("spool.heal_failed")
            if self.writable != before:
                changed()

    async def heal(self) -> None:
        """Change to another file after a move or a fault, probe the disk, and copy the events of the former file."""
        try:
            file = await self.run(self._check_file)
            clock = asyncio.get_running_loop().time
            if self.problem is not None or clock() - self._probed_at >= _PROBE_EVERY:
                self._probed_at = clock()
                await self.run(file.probe)
        except (OSError, sqlite3.Error) as error:
            self._refuse(error)
            return
        self._accept()
        await self._copies.copy_all()

    async def measure(self) -> None:
        """Measure the files. Ignore errors: writes and ``heal`` handle them."""
        files = [file for file in (self.file, self.adopted) if file is not None]
        try:
            # At once: until the files are counted, the last count holds, and what is written after that is added to it.
            self.events = await self.run(lambda: sum(file.count() for file in files))
        except (OSError, sqlite3.Error):
            self.events = 0
        with contextlib.suppress(OSError, sqlite3.Error):
            self.bytes = await self.run(lambda: sum(file.size() for file in files))
            self.free_bytes = (await self.run(shutil.disk_usage, self.folder)).free
            await self._measure_unowned()

    async def _measure_unowned(self) -> None:
        """Measure the files of ended processes, unless that was done just now. Raises OSError."""
        now = asyncio.get_running_loop().time()
        if now - self._measured_unowned_at < _MEASURE_UNOWNED_EVERY:
            return
        self._measured_unowned_at = now
        self.unowned = await self.run(self._unowned_files.measure)
        if self.file is not None:
            self.file.yield_bytes(self.unowned.bytes // self._processes)

    def add(self, entries: list[Entry]) -> None:
        """Make entries durable; blocking, for the spool's thread. Raises sqlite3.Error."""
        if self.file is None:
            raise sqlite3.OperationalError("no spool file is open yet")
        self.file.add(entries)

    def renew(self) -> None:
        """Replace an empty file that occupies disk space; blocking. Raises OSError and sqlite3.Error."""
        file = self.file
        if file is not None and file.is_used_up:
            self.file = None
            file.discard()
            self.file = self._take_file()

    def _check_file(self) -> SpoolFile:
        """Return the file to add to: a new one after a move or a fault. Raises OSError and sqlite3.Error."""
        file = self.file
        if file is None:
            self.file = self._take_file()
            return self.file
        fresh = file
        try:
            file.check()
        except MovedError as error:
            fresh = self._take_file(file.path)
            self._copies.add_moved(file)
            self._logger.error("spool.moved", error=str(error), file=str(fresh.path))  # noqa: TRY400 a disk fault needs no traceback
        except sqlite3.Error as error:
            fresh = self._take_file()
            try:
                suspect = file.set_suspect()
            except OSError:
                fresh.close()
                raise
            self._logger.error("spool.suspect", error=str(error), file=suspect.name)  # noqa: TRY400 as above
        self.file = fresh
        return fresh

    def _take_file(self, but: Path | None = None) -> SpoolFile:
        make_folder(self.folder)
        file = free_file(self.folder, self.max_bytes, but)
        file.yield_bytes(self.unowned.bytes // self._processes)
        return file

    def _refuse(self, error: Exception) -> None:
        problem = self._describe(error)
        if self.problem is None:
            self._logger.error("spool.not_writable", reason=problem.reason, error=str(problem))
        self.problem = problem

    def _accept(self) -> None:
        if self.problem is not None:
            self._logger.warning("spool.writable", folder=str(self.folder))
        self.problem = None

    def _describe(self, error: Exception) -> WriteFailedError:
        reason: str = getattr(error, "sqlite_errorname", type(error).__name__)
        if isinstance(error, OSError):
            reason = errno.errorcode.get(error.errno or 0, reason)
        return WriteFailedError(reason, f"the spool in {self.folder} takes no events: {error}")


def refuse_unusable(folder: Path, max_bytes: int) -> None:
    """Write to the folder once, as ``Spool.open`` does; blocking.

    Raises SettingsError when the folder cannot be used. A full or failing disk is accepted: it may recover.
    """
    try:
        make_folder(folder)
        file = free_file(folder, max_bytes)
        try:
            file.probe()
        finally:
            file.close()
    except (OSError, sqlite3.Error) as error:
        if not is_disk_fault(error):
            raise SettingsError.cannot_write(folder, error) from None

"""Publishes the spool whenever Redis takes writes, in parallel to live traffic.

Files of processes that have ended are drained as well. An event leaves the disk after Redis has it; an event that is
published twice is added once.
"""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from receiver import metrics
from receiver.delivery.node import BATCH, DRAINERS
from receiver.errors import AWAY, SLOT_MOVES, WriteFailedError
from receiver.spool.directory import spool_files
from receiver.spool.errors import makes_suspect
from receiver.spool.file import lock_file
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from receiver.delivery.topology import Topology
    from receiver.log import Logger
    from receiver.spool.file import SpoolFile
    from receiver.spool.rows import SpoolRow
    from receiver.spool.spool import Spool

#: Seconds between scans of the folder when there is nothing to drain.
_SCAN_EVERY: Final = 1.0
#: Seconds after which entries that their topic refused are retried, and those of a slot that is under way.
_RETRY_PARKED: Final = 60.0
_RETRY_PASSING: Final = 0.5
#: Events that are read at a time.
_READ: Final = BATCH * DRAINERS
#: Seconds between two log lines of a long drain.
_REPORT_EVERY: Final = 5.0


class FileDrain:
    """Empties one spool file into Redis: oldest first, in batches, through the same script as live traffic."""

    def __init__(
        self,
        primaries: Topology,
        run: Callable[..., Awaitable[Any]],
        on_progress: Callable[[int], Awaitable[None]],
    ) -> None:
        """``run`` does blocking work in a thread. ``on_progress`` gets the number of events of each published batch."""
        self._primaries = primaries
        self._run = run
        self._on_progress = on_progress

    async def drain(self, spool_file: SpoolFile, *, parked: bool) -> dict[str, WriteFailedError]:
        """Publish a file's events. Park those that their topic or its primary refuses, and return these topics.

        ``parked``: retry the events parked earlier, before the others: they are the oldest. Raises WriteFailedError
        when no primary takes a write, and OSError or sqlite3.Error when the disk fails.
        """
        blocked: dict[str, WriteFailedError] = {}
        after = 0
        if parked:
            await self._run(spool_file.retry)
        while parked and (batch := await self._run(spool_file.oldest, _READ, "parked", after)):
            after = batch[-1].seq
            blocked |= await self._publish(spool_file, batch, "parked")
        # Only those that are there now: while a primary is away, each event that is spooled would be parked by itself.
        left = await self._run(spool_file.count_unparked)
        while left > 0 and (batch := await self._run(spool_file.oldest, _READ)):
            left -= len(batch)
            refusing = await self._publish(spool_file, batch, "entries")
            if stuck := [one for one in batch if one.entry.topic in refusing]:
                await self._run(spool_file.park, stuck)
            blocked |= refusing
        return blocked

    async def _publish(self, spool_file: SpoolFile, batch: list[SpoolRow], table: str) -> dict[str, WriteFailedError]:
        """Publish to all primaries at once, then remove what is safe. Return the topics that are not."""
        refusing = await self._primaries.drain([one.entry for one in batch])
        safe = [one for one in batch if one.entry.topic not in refusing]
        if safe:
            await self._run(partial(spool_file.remove, safe, table, whole_batch=len(safe) == len(batch)))
        await self._on_progress(len(safe))
        return refusing


class Drain:
    """Empties the spool whenever Redis takes writes."""

    def __init__(self, spool: Spool, primaries: Topology, logger: Logger) -> None:
        self._spool = spool
        self._files = FileDrain(primaries, spool.run, self._on_progress)
        self._primaries = primaries
        self._logger = logger
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: When the parked entries are retried, on the event loop's clock.
        self._retry_at = 0.0
        #: Whether entries were parked because their slot was under way.
        self._passing = False
        self._failing: set[Path] = set()
        self._failure = ""

    def start(self) -> None:
        """Start draining."""
        self._task = asyncio.create_task(self._run(), name="drain")

    def retry(self) -> None:
        """Scan the spool now, parked entries included: a primary is back, or a slot has got another one."""
        self._retry_at = 0.0
        self._wake.set()

    async def close(self) -> None:
        """Stop at once. Events published and not yet removed are published again later, and recognised."""
        await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                if any(node.takes_writes for node in self._primaries.nodes):
                    await self._drain_all()
                await self._spool.measure()
                self._failure = ""
            except WriteFailedError as error:
                self._logger.debug("spool.drain_paused", error=str(error))
            except OSError as error:  # out of descriptors, folder deleted: such a failure lasts, so log it once
                if str(error) != self._failure:
                    self._failure = str(error)
                    self._logger.error("spool.drain_failed", error=str(error))  # noqa: TRY400 as below
            except Exception:  # any: without this task acknowledged events would stay on the disk forever
                self._logger.exception("spool.drain_failed")
            try:
                await asyncio.wait_for(self._wake.wait(), _RETRY_PASSING if self._passing else _SCAN_EVERY)
            except TimeoutError:
                continue

    async def _drain_all(self) -> None:
        clock = asyncio.get_running_loop().time
        self._progress = Progress(self._logger, clock)
        parked = self._passing or clock() >= self._retry_at
        if parked:
            self._retry_at = clock() + _RETRY_PARKED
        self._passing = False
        await self._attempt(self._spool.folder, self._drain_own(parked=parked))
        for path in await self._spool.run(spool_files, self._spool.folder):
            await self._attempt(path, self._drain_orphan(path, parked=parked))
        self._progress.end()

    async def _attempt(self, path: Path, draining: Awaitable[None]) -> None:
        """Drain one file. An unreadable file is logged once and does not hold up the others."""
        try:
            await draining
        except (OSError, sqlite3.Error) as error:
            if path not in self._failing:
                self._failing.add(path)
                self._logger.error("spool.file_unreadable", file=path.name, error=str(error))  # noqa: TRY400 a disk fault needs no traceback
        else:
            self._failing.discard(path)

    async def _drain_own(self, *, parked: bool) -> None:
        """Drain the file of this process. If the file fails, the spool changes to another one within a second."""
        own = self._spool.file
        if own is None:
            return
        try:
            await self._drain_file(own, parked=parked)
            await self._spool.run(self._spool.renew)
        except sqlite3.Error:
            if own is self._spool.file:  # else the spool has changed files in the meantime, and closed this one
                raise

    async def _drain_orphan(self, path: Path, *, parked: bool) -> None:
        """Drain a file that no living process holds, and remove it. Mark it suspect if it is damaged."""
        run = self._spool.run
        orphan = await run(partial(lock_file, path, self._spool.max_bytes, to_drain=True))
        if orphan is None:
            return
        self._spool.adopted = orphan
        try:
            await self._drain_file(orphan, parked=parked)
            if await run(orphan.count) == 0:
                await run(orphan.discard)
        except sqlite3.Error as error:
            if makes_suspect(error):
                await run(orphan.set_suspect)
            raise
        finally:
            self._spool.adopted = None
            await run(orphan.close)

    async def _drain_file(self, spool_file: SpoolFile, *, parked: bool) -> None:
        blocked = await self._files.drain(spool_file, parked=parked)
        for error in blocked.values():
            if error.reason in SLOT_MOVES:
                self._passing = True
            elif error.reason != AWAY:
                self._logger.error("spool.topic_blocked", error=str(error))

    async def _on_progress(self, events: int) -> None:
        self._progress.add(events)
        metrics.DRAINED.inc(events)
        await self._spool.measure()


class Progress:
    """Logs the progress of a long drain: every few seconds, and at its end."""

    def __init__(self, logger: Logger, clock: Callable[[], float]) -> None:
        """``clock`` returns seconds."""
        self._logger = logger
        self._clock = clock
        self._began = self._reported = clock()
        self._events = 0

    def add(self, events: int) -> None:
        """Count a batch."""
        self._events += events
        if self._clock() - self._reported > _REPORT_EVERY:
            self._reported = self._clock()
            self._report("spool.draining")

    def end(self) -> None:
        """Log the total, unless nothing was drained."""
        if self._events:
            self._report("spool.drained")

    def _report(self, fact: str) -> None:
        self._logger.info(fact, events=self._events, seconds=round(self._clock() - self._began, 3))

"""When the spool goes back to Redis: whenever Redis takes writes, beside the live traffic.

Files of processes that are no longer there are drained as well.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Final

from receiver import metrics
from receiver.delivery.file_drain import FileDrain
from receiver.spool.recovery import is_damage
from receiver.delivery.salvage import salvage
from receiver.spool.file import lock_file
from receiver.spool.directory import spool_files
from receiver.errors import NotTakenError
from receiver.tasks import end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from receiver.delivery.breaker import Breaker
    from receiver.delivery.publisher import Publisher
    from receiver.spool.spool import Spool
    from receiver.spool.file import SpoolFile
    from receiver.log import Logger

#: Seconds between looks at the folder when there is nothing to do.
_LOOK_AGAIN: Final = 1.0
#: Seconds after which entries that their topic did not take are tried again.
_RETRY_PARKED: Final = 60.0
_SAY_PROGRESS: Final = 5.0
_ADVICE: Final = "what did not read is in this file alone: keep it, and see `receiver spool export`"


class Drain:
    """Empties the spool whenever Redis takes writes."""

    def __init__(self, spool: Spool, publishers: Sequence[Publisher], breaker: Breaker, logger: Logger) -> None:
        """Take publishers of its own, so that live traffic does not queue behind old events."""
        self._spool = spool
        self._files = FileDrain(publishers, spool.run, self._told)
        self._breaker = breaker
        self._logger = logger
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._parked_at = 0.0
        self._failing: set[Path] = set()

    def start(self) -> None:
        """Begin to drain."""
        self._task = asyncio.create_task(self._run(), name="drain")

    def wake(self) -> None:
        """Look at the spool now rather than within a second."""
        self._wake.set()

    async def close(self) -> None:
        """Stop at once. What was published and is not removed yet is published again, and recognised."""
        await end(self._task)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                if self._breaker.closed:
                    await self._drain_all()
                await self._spool.measure()
            except NotTakenError as error:
                self._breaker.trip(error)
            except Exception:  # whatever it is: who ends here leaves acknowledged events on the disk for ever
                self._logger.exception("spool.drain_failed")
            try:
                await asyncio.wait_for(self._wake.wait(), _LOOK_AGAIN)
            except TimeoutError:
                continue

    async def _drain_all(self) -> None:
        clock = asyncio.get_running_loop().time
        self._progress = Progress(self._logger, clock)
        now = clock()
        parked = now - self._parked_at >= _RETRY_PARKED
        if parked:
            self._parked_at = now
        await self._drain_own(parked=parked)
        for path in await self._spool.run(spool_files, self._spool.folder):
            try:
                await self._drain_orphan(path, parked=parked)
                self._failing.discard(path)
            except (OSError, sqlite3.Error) as error:  # one that cannot be read must not hold up the others
                if path not in self._failing:
                    self._failing.add(path)
                    self._logger.error("spool.file_unreadable", file=path.name, error=str(error))  # noqa: TRY400 a disk fault needs no traceback
        self._progress.end()

    async def _drain_own(self, *, parked: bool = False) -> None:
        own = self._spool.file
        try:
            await self._drain_file(own, parked=parked)
        except (OSError, sqlite3.Error) as error:
            own.suspect(error)
            if own is self._spool.file:  # else it was left in the meantime, and closed
                self._logger.error("spool.unreadable", error=str(error))  # noqa: TRY400 as above

    async def _drain_orphan(self, path: Path, *, parked: bool) -> None:
        """Drain a file that no living process holds."""
        try:
            orphan = await self._spool.run(lock_file, path, self._spool.max_bytes)
            if orphan is None:
                return
            try:
                await self._drain_file(orphan, parked=parked)
            finally:
                await self._spool.run(orphan.close)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            await self._salvage(path)

    async def _salvage(self, path: Path) -> None:
        """Copy what can be read of a damaged file into our own, and set it aside."""
        salvaged = await salvage(path, self._spool.run, self._spool.add, self._drain_own)
        if salvaged is None:
            return
        aside, copying = salvaged
        self._logger.error("spool.set_aside", file=aside.name, **copying.outcome, advice=_ADVICE)
        self.wake()

    async def _drain_file(self, spool_file: SpoolFile, *, parked: bool) -> None:
        blocked = await self._files.drain(spool_file, parked=parked)
        for error in blocked.values():
            self._logger.error("spool.topic_blocked", error=str(error))

    async def _told(self, events: int) -> None:
        self._progress.add(events)
        metrics.DRAINED.inc(events)
        await self._spool.measure()


class Progress:
    """Says how a long drain goes: at its end, and every few seconds before."""

    def __init__(self, logger: Logger, clock: Callable[[], float]) -> None:
        """Take the clock, in seconds."""
        self._logger = logger
        self._clock = clock
        self._began = self._said = clock()
        self._events = 0

    def add(self, events: int) -> None:
        """Count a batch."""
        self._events += events
        if self._clock() - self._said > _SAY_PROGRESS:
            self._said = self._clock()
            self._say("spool.draining")

    def end(self) -> None:
        """Report, if there was anything."""
        if self._events:
            self._say("spool.drained")

    def _say(self, fact: str) -> None:
        self._logger.info(fact, events=self._events, seconds=round(self._clock() - self._began, 3))

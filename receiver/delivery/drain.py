"""From the spool back to Redis: oldest first, in batches, beside the live traffic and through the same script.

Nothing leaves the disk before Redis has it; what is published twice is added once. Files of processes that are no
longer there are drained as well.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Final

from receiver import metrics
from receiver.delivery.groups import NotTakenError
from receiver.delivery.spool import SpoolFile, free_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.delivery.breaker import Breaker
    from receiver.delivery.publisher import Publisher
    from receiver.delivery.spool import Spool, Spooled
    from receiver.log import Logger

#: Events read from disk and published at a time: two script calls, between which live traffic gets its turn.
BATCH: Final = 1000
#: Seconds between looks at the folder when there is nothing to do.
_LOOK_AGAIN: Final = 1.0
#: Seconds after which entries that their topic did not take are tried again.
_RETRY_PARKED: Final = 60.0
_SAY_PROGRESS: Final = 5.0


class Drain:
    """Empties the spool whenever Redis takes writes."""

    def __init__(self, spool: Spool, publisher: Publisher, breaker: Breaker, logger: Logger) -> None:
        """Take a publisher of its own, so that live traffic does not queue behind old events."""
        self._spool = spool
        self._publisher = publisher
        self._breaker = breaker
        self._logger = logger
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._parked_at = 0.0

    def start(self) -> None:
        """Begin to drain."""
        self._task = asyncio.create_task(self._run(), name="drain")

    def wake(self) -> None:
        """Look at the spool now rather than within a second."""
        self._wake.set()

    async def close(self) -> None:
        """Stop after the batch in hand."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._breaker.closed:
                try:
                    await self._drain_all()
                except NotTakenError as error:
                    self._breaker.trip(error)
                except (OSError, sqlite3.Error) as error:
                    self._logger.error("spool.unreadable", error=str(error))  # noqa: TRY400 a disk fault needs no traceback
            await self._spool.measure()
            try:
                await asyncio.wait_for(self._wake.wait(), _LOOK_AGAIN)
            except TimeoutError:
                continue

    async def _drain_all(self) -> None:
        await self._drain_file(self._spool.file)
        await self._retry_parked(self._spool.file)
        for orphan in await self._spool.run(self._orphans):
            try:
                await self._drain_file(orphan)
            finally:
                await self._spool.run(orphan.close)

    def _orphans(self) -> list[SpoolFile]:
        return list(free_files(self._spool.folder, self._spool.max_bytes))

    async def _drain_file(self, spool_file: SpoolFile) -> None:
        progress = Progress(self._logger, asyncio.get_running_loop().time)
        while batch := await self._spool.run(spool_file.oldest, BATCH):
            blocked = await self._publish(batch)
            safe = [one for one in batch if one.entry.topic not in blocked]
            await self._spool.run(spool_file.remove, safe)
            if len(safe) < len(batch):
                stuck = [one for one in batch if one.entry.topic in blocked]
                await self._spool.run(spool_file.park, stuck)
                for error in blocked.values():
                    self._logger.error("spool.topic_blocked", error=str(error))
            progress.add(len(safe))
            metrics.DRAINED.inc(len(safe))
            await self._spool.measure()
        progress.end()
        await self._spool.run(spool_file.shrink)

    async def _retry_parked(self, spool_file: SpoolFile) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._parked_at < _RETRY_PARKED:
            return
        self._parked_at = now
        while batch := await self._spool.run(spool_file.oldest, BATCH, "parked"):
            blocked = await self._publish(batch)
            safe = [one for one in batch if one.entry.topic not in blocked]
            await self._spool.run(spool_file.remove, safe, "parked")
            metrics.DRAINED.inc(len(safe))
            if blocked:
                return

    async def _publish(self, batch: list[Spooled]) -> dict[str, NotTakenError]:
        now = asyncio.get_running_loop().time()
        return dict(await self._publisher.write([one.entry for one in batch], now))


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

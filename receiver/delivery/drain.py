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
from receiver.delivery.spool_file import lock_file, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from receiver.delivery.breaker import Breaker
    from receiver.delivery.publisher import Publisher
    from receiver.delivery.spool import Spool
    from receiver.delivery.spool_file import Spooled, SpoolFile
    from receiver.log import Logger

#: Events that one connection publishes at a time: ten script calls, between which live traffic gets its turn.
BATCH: Final = 1000
#: Seconds between looks at the folder when there is nothing to do.
_LOOK_AGAIN: Final = 1.0
#: Seconds after which entries that their topic did not take are tried again.
_RETRY_PARKED: Final = 60.0
_SAY_PROGRESS: Final = 5.0


class Drain:
    """Empties the spool whenever Redis takes writes."""

    def __init__(self, spool: Spool, publishers: Sequence[Publisher], breaker: Breaker, logger: Logger) -> None:
        """Take publishers of its own, so that live traffic does not queue behind old events.

        Several, because Redis reads 16 kB of a connection at a time, and fsyncs in between what others have written:
        beside live traffic one connection gets 20,000 events a second through, on a disk that takes 4 ms to sync.
        """
        self._spool = spool
        self._publishers = publishers
        self._batch = BATCH * len(publishers)
        self._breaker = breaker
        self._logger = logger
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._parked_at = 0.0
        self._unreadable: set[int] = set()

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
            try:
                if self._breaker.closed:
                    await self._drain_all()
                await self._spool.measure()
            except NotTakenError as error:
                self._breaker.trip(error)
            except (OSError, sqlite3.Error) as error:
                self._logger.error("spool.unreadable", error=str(error))  # noqa: TRY400 a disk fault needs no traceback
            except Exception:  # whatever it is: who ends here leaves acknowledged events on the disk for ever
                self._logger.exception("spool.drain_failed")
            try:
                await asyncio.wait_for(self._wake.wait(), _LOOK_AGAIN)
            except TimeoutError:
                continue

    async def _drain_all(self) -> None:
        now = asyncio.get_running_loop().time()
        parked = now - self._parked_at >= _RETRY_PARKED
        if parked:
            self._parked_at = now
        await self._drain_file(self._spool.file, parked=parked)
        for number in await self._spool.run(numbers, self._spool.folder):
            orphan = await self._orphan(number)
            if orphan is None:
                continue
            try:
                await self._drain_file(orphan, parked=parked)
            finally:
                await self._spool.run(orphan.close)

    async def _orphan(self, number: int) -> SpoolFile | None:
        """Take over a file that no living process holds. One that is damaged must not hold up the others."""
        try:
            return await self._spool.run(lock_file, self._spool.folder, number, self._spool.max_bytes)
        except (OSError, sqlite3.Error) as error:
            if number not in self._unreadable:
                self._unreadable.add(number)
                self._logger.error("spool.file_unreadable", file=f"{number:03d}.sqlite", error=str(error))  # noqa: TRY400 as above
            return None

    async def _drain_file(self, spool_file: SpoolFile, *, parked: bool) -> None:
        progress = Progress(self._logger, asyncio.get_running_loop().time)
        while batch := await self._spool.run(spool_file.oldest, self._batch):
            blocked = await self._publish(batch)
            if blocked:
                stuck = [one for one in batch if one.entry.topic in blocked]
                await self._spool.run(spool_file.park, stuck)
                for error in blocked.values():
                    self._logger.error("spool.topic_blocked", error=str(error))
            await self._forget(spool_file, batch, blocked, "entries", progress)
        if parked:
            await self._retry_parked(spool_file, progress)
        progress.end()
        await self._spool.run(spool_file.shrink)

    async def _retry_parked(self, spool_file: SpoolFile, progress: Progress) -> None:
        after = 0
        while batch := await self._spool.run(spool_file.oldest, self._batch, "parked", after):
            after = batch[-1].seq
            await self._forget(spool_file, batch, await self._publish(batch), "parked", progress)

    async def _forget(
        self,
        spool_file: SpoolFile,
        batch: list[Spooled],
        blocked: Mapping[str, NotTakenError],
        table: str,
        progress: Progress,
    ) -> None:
        """Remove what was published from the disk."""
        safe = [one for one in batch if one.entry.topic not in blocked]
        if safe:
            await self._spool.run(spool_file.remove, safe, table)
        progress.add(len(safe))
        metrics.DRAINED.inc(len(safe))
        await self._spool.measure()

    async def _publish(self, batch: list[Spooled]) -> dict[str, NotTakenError]:
        """Publish side by side; return the topics that do not take events. Raises NotTakenError when one part fails."""
        now = asyncio.get_running_loop().time()
        parts = [[one.entry for one in batch[at : at + BATCH]] for at in range(0, len(batch), BATCH)]
        writes = (publisher.write(part, now) for publisher, part in zip(self._publishers, parts, strict=False))
        blocked: dict[str, NotTakenError] = {}
        for result in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
            blocked.update(result)
        return blocked


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

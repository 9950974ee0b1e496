"""Empties one spool file into Redis: oldest first, in batches, through the same script as live traffic.

Nothing leaves the disk before Redis has it; what is published twice is added once.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from receiver.delivery.publisher import Publisher
    from receiver.spool.file import Spooled, SpoolFile
    from receiver.errors import NotTakenError

#: Events that one connection publishes at a time: ten script calls, between which live traffic gets its turn.
BATCH: Final = 1000


class FileDrain:
    """Publishes what is in spool files, and removes it."""

    def __init__(
        self,
        publishers: Sequence[Publisher],
        run: Callable[..., Awaitable[Any]],
        told: Callable[[int], Awaitable[None]],
    ) -> None:
        """Take the publishers, what runs blocking work in a thread, and what to tell how many events were published.

        Several publishers, because Redis reads 16 kB of a connection at a time, and fsyncs in between what others
        have written: beside live traffic one connection gets 20,000 events a second through, on a disk that takes
        4 ms to sync.
        """
        self._publishers = publishers
        self._batch = BATCH * len(publishers)
        self._run = run
        self._told = told

    async def drain(self, spool_file: SpoolFile, *, parked: bool) -> dict[str, NotTakenError]:
        """Publish a file's events; return the topics that did not take theirs, which are kept aside.

        ``parked``: try those put aside earlier, too. They go first: they are the oldest. Raises NotTakenError when
        Redis takes nothing, and OSError or sqlite3.Error when the disk fails.
        """
        blocked: dict[str, NotTakenError] = {}
        after = 0
        if parked:
            await self._run(spool_file.retry)
        while parked and (batch := await self._run(spool_file.oldest, self._batch, "parked", after)):
            after = batch[-1].seq
            blocked |= await self._publish(spool_file, batch, "parked")
        while batch := await self._run(spool_file.oldest, self._batch):
            refusing = await self._publish(spool_file, batch, "entries")
            if stuck := [one for one in batch if one.entry.topic in refusing]:
                await self._run(spool_file.park, stuck)
            blocked |= refusing
        await self._run(spool_file.shrink)
        return blocked

    async def _publish(self, spool_file: SpoolFile, batch: list[Spooled], table: str) -> dict[str, NotTakenError]:
        """Publish side by side, then remove what is safe; return the topics that take nothing."""
        parts = [[one.entry for one in batch[at : at + BATCH]] for at in range(0, len(batch), BATCH)]
        writes = (publisher.write(part) for publisher, part in zip(self._publishers, parts, strict=False))
        refusing: dict[str, NotTakenError] = {}
        for result in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
            refusing |= result
        safe = [one for one in batch if one.entry.topic not in refusing]
        if safe:
            await self._run(partial(spool_file.remove, safe, table, all_of_them=len(safe) == len(batch)))
        await self._told(len(safe))
        return refusing

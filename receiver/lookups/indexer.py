"""Applies the event streams to the report index: at least once, since applying twice has no further effect."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from receiver.lookups.counts import COUNTED
from receiver.lookups.decoding import UndecodableError, status_of
from receiver.lookups.group import Group

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from redis.asyncio import Redis

    from receiver.log import Logger
    from receiver.lookups.group import Batch
    from receiver.lookups.reports import Reports, Status

_BATCH: Final = 1000  # entries of each stream in one read
_BLOCK_MS: Final = 500  # the list of topics is refreshed at least this often
_SMALL, _LINGER_S = 200, 0.02  # after a small batch, let more entries gather: 20 ms later, and far fewer calls
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.1, 5.0
_REAP_AFTER: Final = 10  # after this many claim times without a claim, a consumer counts as dead
_LOGGED_IDS: Final = 20  # of the undecodable entries of a batch
_FROM_START: Final = b"0-0"


class Indexer:
    """One worker. Several of them, in any number of processes, share the streams.

    ``totals`` counts entries since the start. ``paused``: Redis is away. The backlog of the index is the lag of the
    consumer group.
    """

    def __init__(  # noqa: PLR0913 parts and one setting
        self,
        redis: Redis,
        reports: Reports,
        *,
        topics: Callable[[], Collection[str]],
        consumer: str,
        log: Logger,
        claim_after_s: float = 60.0,
    ) -> None:
        """``run`` does the work.

        ``topics`` returns the streams to read and is called at least once a second. ``consumer`` is the name of this
        worker, unique among the running ones. Entries that another worker has not acknowledged for ``claim_after_s``
        seconds are taken over. A ``socket_timeout`` of the client must be longer than half a second.
        """
        self._reports = reports
        self._topics = topics
        self._log = log
        self._group = Group(redis, consumer)
        self._claim_ms = int(claim_after_s * 1000)
        self.applied = self.skipped = self.undecodable = self.claimed = 0
        self.paused = False
        self._failures = 0

    @property
    def totals(self) -> dict[str, int]:
        """How many entries had which outcome, by the names of ``COUNTED``."""
        return {name: getattr(self, name) for name in COUNTED}

    async def run(self) -> None:
        """Index until cancelled. Retry after any error, with pauses that double up to 5 s."""
        while True:
            try:
                await self._work()
            except (RedisError, OSError) as error:
                self._pause(error)
            except Exception:  # noqa: BLE001 a worker that keeps logging an error is better than a worker that ends silently
                self._failures += 1
                self._log.exception("indexer.failed")
            self._group.forget()
            await asyncio.sleep(min(_FIRST_PAUSE_S * 2 ** min(self._failures, 9), _MAX_PAUSE_S))

    async def _work(self) -> None:
        await self._recover(self._topics())
        claim_at = 0.0
        while True:
            topics = self._topics()
            if not topics:
                await asyncio.sleep(_BLOCK_MS / 1000)
                continue
            await self._group.join(topics)
            if monotonic() >= claim_at:
                await self._take_over(topics)
                claim_at = monotonic() + self._claim_ms / 2000
            size = await self._index(await self._group.unread(topics, _BATCH, _BLOCK_MS))
            self._resume()
            if 0 < size < _SMALL:
                await asyncio.sleep(_LINGER_S)

    async def _recover(self, topics: Iterable[str]) -> None:
        """Index the entries that this worker had read before it was stopped or lost Redis."""
        await self._group.join(topics)
        after = dict.fromkeys(topics, _FROM_START)
        while after:
            batches = [batch for batch in await self._group.pending(after, _BATCH) if batch[1]]
            await self._index(batches)
            after = {topic: entries[-1][0] for topic, entries in batches}

    async def _take_over(self, topics: Iterable[str]) -> None:
        """Index the entries that dead workers had read, and delete dead consumers without pending entries."""
        for topic in topics:
            start = _FROM_START
            while True:
                start, entries = await self._group.claim(topic, self._claim_ms, start, _BATCH)
                self.claimed += await self._index([(topic, entries)])
                if start == _FROM_START:
                    break
            await self._group.reap(topic, _REAP_AFTER * self._claim_ms)

    async def _index(self, batches: Collection[Batch]) -> int:
        """Apply entries, then acknowledge them: a crash in between only repeats them."""
        statuses, skipped, undecodable = _decode(batches)
        for project_id, found in statuses.items():
            await self._reports.apply(project_id, found)
            self.applied += len(found)
        self.skipped += skipped
        for topic, errors in undecodable.items():
            self._report_undecodable(topic, errors)
        for topic, batch in batches:
            await self._group.acknowledge(topic, batch)
        size = sum(len(batch) for _, batch in batches)
        if size:
            self._resume()
        return size

    def _report_undecodable(self, topic: str, errors: Mapping[bytes, UndecodableError]) -> None:
        """Count undecodable entries, and log them in one line: there may be a thousand."""
        self.undecodable += len(errors)
        self._log.error(
            "indexer.undecodable",
            topic=topic,
            count=len(errors),
            entry_ids=[entry_id.decode() for entry_id in islice(errors, _LOGGED_IDS)],
            reason=str(next(iter(errors.values()))),
        )

    def _pause(self, error: Exception) -> None:
        self._failures += 1
        if not self.paused:
            self.paused = True
            self._log.warning("indexer.paused", error=type(error).__name__, reason=str(error))

    def _resume(self) -> None:
        self._failures = 0
        if self.paused:
            self.paused = False
            self._log.info("indexer.resumed")


def _decode(
    batches: Iterable[Batch],
) -> tuple[dict[str, list[Status]], int, dict[str, dict[bytes, UndecodableError]]]:
    """Return the status events by project, the number of skipped entries, and the undecodable entries by topic."""
    statuses: defaultdict[str, list[Status]] = defaultdict(list)
    undecodable: defaultdict[str, dict[bytes, UndecodableError]] = defaultdict(dict)
    skipped = 0
    for topic, entries in batches:
        for entry_id, fields in entries:
            try:
                event = status_of(entry_id, fields) if fields else None  # a trimmed entry has no fields
            except UndecodableError as error:
                undecodable[topic][entry_id] = error
                continue
            if event is None:
                skipped += 1
            else:
                statuses[event[0]].append(event[1])
    return statuses, skipped, undecodable

"""Event streams to the report index: at least once, and applying twice changes nothing."""

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

_BATCH = 1000  # entries of each stream a read
_BLOCK_MS = 500  # topics are looked at anew at least this often
_SMALL, _LINGER_S = 200, 0.02  # after a small batch let more gather: 20 ms later, and a fraction of the calls
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_REAP_AFTER = 10  # a consumer that has claimed nothing for so many claim times is of a dead process
_LOGGED_IDS: Final = 20  # of the entries of a batch that are no events
_FROM_START: Final = b"0-0"


class Indexer:
    """One worker. Several of them, in any number of processes, share the streams.

    ``totals`` counts entries since the start. ``paused`` says that Redis is away. How far the index is behind, the
    consumer group tells.
    """

    def __init__(  # noqa: PLR0913 - collaborators and one setting
        self,
        redis: Redis,
        reports: Reports,
        *,
        topics: Callable[[], Collection[str]],
        consumer: str,
        log: Logger,
        claim_after_s: float = 60.0,
    ) -> None:
        """Keep the collaborators; ``run`` does the work.

        ``topics`` returns the streams to read and is asked at least each second. ``consumer`` names this
        worker, unlike any other that runs. Entries that another worker has not acknowledged for
        ``claim_after_s`` seconds are taken over. A ``socket_timeout`` of the client must be longer than half
        a second.
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
        """What has become of how many entries, by the names of ``COUNTED``."""
        return {name: getattr(self, name) for name in COUNTED}

    async def run(self) -> None:
        """Index until cancelled. Whatever fails, it tries again, with longer and longer pauses up to 5 s."""
        while True:
            try:
                await self._work()
            except (RedisError, OSError) as error:
                self._pause(error)
            except Exception:  # noqa: BLE001 - a worker that dies silently is worse than one that repeats itself
                self._failures += 1
                self._log.exception("indexer.failed")
            self._group.forget()
            await asyncio.sleep(min(_FIRST_PAUSE_S * 2 ** min(self._failures, 9), _LONGEST_PAUSE_S))

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
            size = await self._index(await self._group.new(topics, _BATCH, _BLOCK_MS))
            self._good()
            if 0 < size < _SMALL:
                await asyncio.sleep(_LINGER_S)

    async def _recover(self, topics: Iterable[str]) -> None:
        """Index what this worker had read before it was stopped or lost Redis."""
        await self._group.join(topics)
        after = dict.fromkeys(topics, _FROM_START)
        while after:
            batches = [batch for batch in await self._group.mine(after, _BATCH) if batch[1]]
            await self._index(batches)
            after = {topic: entries[-1][0] for topic, entries in batches}

    async def _take_over(self, topics: Iterable[str]) -> None:
        """Index what dead workers had read, and forget the workers that have left nothing."""
        for topic in topics:
            start = _FROM_START
            while True:
                start, entries = await self._group.claim(topic, self._claim_ms, start, _BATCH)
                self.claimed += await self._index([(topic, entries)])
                if start == _FROM_START:
                    break
            await self._group.reap(topic, _REAP_AFTER * self._claim_ms)

    async def _index(self, batches: Collection[Batch]) -> int:
        """Apply entries, then acknowledge them, in this order: a crash in between only repeats them."""
        statuses, skipped, refused = _read(batches)
        for project_id, found in statuses.items():
            await self._reports.apply(project_id, found)
            self.applied += len(found)
        self.skipped += skipped
        for topic, errors in refused.items():
            self._refuse(topic, errors)
        for topic, batch in batches:
            await self._group.acknowledge(topic, batch)
        size = sum(len(batch) for _, batch in batches)
        if size:
            self._good()
        return size

    def _refuse(self, topic: str, errors: Mapping[bytes, UndecodableError]) -> None:
        """Count and log entries that are no events, in one line: a thousand may come at a time."""
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

    def _good(self) -> None:
        self._failures = 0
        if self.paused:
            self.paused = False
            self._log.info("indexer.resumed")


def _read(
    batches: Iterable[Batch],
) -> tuple[dict[str, list[Status]], int, dict[str, dict[bytes, UndecodableError]]]:
    """Return the status events by project, how many entries are about no message, and by topic what is no event."""
    statuses: defaultdict[str, list[Status]] = defaultdict(list)
    refused: defaultdict[str, dict[bytes, UndecodableError]] = defaultdict(dict)
    skipped = 0
    for topic, entries in batches:
        for entry_id, fields in entries:
            try:
                event = status_of(entry_id, fields) if fields else None  # one that was trimmed has no fields
            except UndecodableError as error:
                refused[topic][entry_id] = error
                continue
            if event is None:
                skipped += 1
            else:
                statuses[event[0]].append(event[1])
    return statuses, skipped, refused

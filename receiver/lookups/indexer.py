"""Event streams to the report index: at least once, and applying twice changes nothing."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from receiver.lookups.decoding import UndecodableError, status_of
from receiver.lookups.group import Group

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from redis.asyncio import Redis

    from receiver.log import Logger
    from receiver.lookups.group import Batch, Entry
    from receiver.lookups.reports import Reports, Status

_BATCH = 1000  # entries of each stream a read
_BLOCK_MS = 500  # topics are looked at anew at least this often
_SMALL, _LINGER_S = 200, 0.02  # after a small batch let more gather: 20 ms later, and a fraction of the calls
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_REAP_AFTER = 10  # a consumer that has claimed nothing for so many claim times is of a dead process
_FROM_START: Final = b"0-0"


class Indexer:
    """One worker. Several of them, in any number of processes, share the streams.

    ``applied``, ``skipped`` (replies, rejected events), ``undecodable`` and ``claimed`` count entries since
    the start; ``lag_seconds`` is the age of the oldest entry of the last batch when it became visible, 0 when
    there is nothing to read, and grows while Redis is away; ``paused`` says that it is.
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
        self.lag_seconds = 0.0
        self.paused = False
        self._failures = 0
        self._last_good = monotonic()

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
        entries = [entry for _, batch in batches for entry in batch]
        for project_id, statuses in self._statuses(entries).items():
            await self._reports.apply(project_id, statuses)
            self.applied += len(statuses)
        for topic, batch in batches:
            await self._group.acknowledge(topic, batch)
        oldest = min((_milliseconds(entry_id) for entry_id, _ in entries), default=None)
        self.lag_seconds = 0.0 if oldest is None else max(0.0, time() - oldest / 1000)
        if entries:
            self._good()
        return len(entries)

    def _statuses(self, entries: Iterable[Entry]) -> dict[str, list[Status]]:
        """Return the status events by project, and count what is none."""
        found = defaultdict(list)
        for entry_id, fields in entries:
            try:
                event = status_of(entry_id, fields)
            except UndecodableError:
                self.undecodable += 1
                continue
            if event is None:
                self.skipped += 1
            else:
                found[event[0]].append(event[1])
        return found

    def _pause(self, error: Exception) -> None:
        self._failures += 1
        self.lag_seconds = monotonic() - self._last_good
        if not self.paused:
            self.paused = True
            self._log.warning("indexer.paused", error=type(error).__name__, reason=str(error))

    def _good(self) -> None:
        self._failures, self._last_good = 0, monotonic()
        if self.paused:
            self.paused = False
            self._log.info("indexer.resumed")


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])

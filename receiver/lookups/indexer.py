"""Applies the event streams to the report index: at least once, since applying twice has no further effect.

The streams of each primary are read by a task of its own, and a stream whose entries cannot be applied is set back
alone. So one primary that is away or hangs holds up neither the streams nor the indexes of the others.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from receiver.lookups.counts import COUNTED
from receiver.lookups.decoding import UndecodableError, status_of
from receiver.lookups.group import Group
from receiver.redis_client import by_primary
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from receiver.log import Logger
    from receiver.lookups.group import Batch
    from receiver.lookups.reports import Reports, Status
    from receiver.redis_client import Client

_BATCH: Final = 1000  # entries of each stream in one read
_BLOCK_MS: Final = 500  # the list of topics is refreshed at least this often
_SMALL, _LINGER_S = 200, 0.02  # after a small batch, let more entries gather: 20 ms later, and far fewer calls
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.1, 5.0
_MAX_TURN_S: Final = 15.0  # a primary that hangs may have been replaced
_REAP_AFTER: Final = 10  # after this many claim times without a claim, a consumer counts as dead
_LOGGED_IDS: Final = 20  # of the undecodable entries of a batch
_FROM_START: Final = b"0-0"


@dataclass
class _Stream:
    """What this worker knows of a stream. Times are those of the monotonic clock."""

    recovered: bool = False  # the entries that it had read before are indexed
    claim_at: float = 0.0
    failures: int = 0
    retry_at: float = 0.0


class Indexer:
    """One worker. Several of them, in any number of processes, share the streams.

    ``totals`` counts entries since the start. ``paused``: Redis is away, or one of its primaries. The backlog of the
    index is the lag of the consumer group.
    """

    def __init__(  # noqa: PLR0913 parts and one setting
        self,
        redis: Client,
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
        self._redis = redis
        self._reports = reports
        self._topics = topics
        self._log = log
        self._group = Group(redis, consumer)
        self._claim_ms = int(claim_after_s * 1000)
        self.applied = self.skipped = self.undecodable = self.claimed = 0
        self.paused = False
        self._streams: defaultdict[str, _Stream] = defaultdict(_Stream)

    @property
    def totals(self) -> dict[str, int]:
        """How many entries had which outcome, by the names of ``COUNTED``."""
        return {name: getattr(self, name) for name in COUNTED}

    async def run(self) -> None:
        """Index until cancelled. Retry after any error, with pauses that double up to 5 s."""
        under_way: dict[asyncio.Task[None], list[str]] = {}
        try:
            while True:
                busy = {topic for own in under_way.values() for topic in own}
                now = monotonic()
                due = [topic for topic in self._topics() if topic not in busy and now >= self._streams[topic].retry_at]
                for own in by_primary(self._redis, due) if due else ():
                    under_way[asyncio.create_task(self._turn(own), name="index")] = own
                if under_way:
                    done, _ = await asyncio.wait(under_way, timeout=_FIRST_PAUSE_S, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        del under_way[task]
                else:
                    await asyncio.sleep(_FIRST_PAUSE_S)
        finally:
            await cancel_and_wait(*under_way)

    async def _turn(self, topics: list[str]) -> None:
        """Index what is new in the streams of one primary."""
        try:
            async with asyncio.timeout(_MAX_TURN_S):
                ready = [topic for topic in topics if await self._prepare(topic)]
                size, failed = await self._read(ready) if ready else (0, {})
        except Exception as error:  # noqa: BLE001 a worker that keeps logging is better than one that ends silently
            if not isinstance(error, (RedisError, OSError)):
                self._log.exception("indexer.failed")
            for topic in topics:
                self._set_back(topic, error)
            return
        for topic in ready:
            if topic in failed:
                self._set_back(topic, failed[topic])
            else:
                self._resume(topic)
        if 0 < size < _SMALL:
            await asyncio.sleep(_LINGER_S)

    async def _prepare(self, topic: str) -> bool:
        """Join the group, and index what this worker or a dead one had read. Return whether that succeeded."""
        stream = self._streams[topic]
        try:
            await self._group.join(topic)
            if not stream.recovered:
                await self._recover(topic)
                stream.recovered = True
            if monotonic() >= stream.claim_at:
                await self._take_over(topic)
                stream.claim_at = monotonic() + self._claim_ms / 2000
        except (RedisError, OSError) as error:
            self._set_back(topic, error)
            return False
        return True

    async def _recover(self, topic: str) -> None:
        """Index the entries that this worker had read before it was stopped or lost Redis."""
        after = _FROM_START
        while True:
            batches, refused = await self._group.pending({topic: after}, _BATCH)
            for refusal in refused.values():
                raise refusal
            entries = [entry for _, found in batches for entry in found]
            if not entries:
                return
            await self._index(batches)
            after = entries[-1][0]

    async def _take_over(self, topic: str) -> None:
        """Index the entries that dead workers had read, and delete dead consumers without pending entries."""
        start = _FROM_START
        while True:
            start, entries = await self._group.claim(topic, self._claim_ms, start, _BATCH)
            self.claimed += await self._index([(topic, entries)])
            if start == _FROM_START:
                break
        await self._group.reap(topic, _REAP_AFTER * self._claim_ms)

    async def _read(self, topics: list[str]) -> tuple[int, dict[str, RedisError | OSError]]:
        """Index unread entries. Return how many, and the streams that failed.

        The index of a project may be on another primary. When that is away, only the project's streams fail.
        """
        batches, refused = await self._group.unread(topics, _BATCH, _BLOCK_MS)
        failed: dict[str, RedisError | OSError] = {**refused}
        try:
            return await self._index(batches), failed
        except (RedisError, OSError):
            size = 0
            for topic, entries in batches:
                try:
                    size += await self._index([(topic, entries)])
                except (RedisError, OSError) as error:
                    failed[topic] = error
            return size, failed

    async def _index(self, batches: Collection[Batch]) -> int:
        """Apply entries, then acknowledge them: a crash in between only repeats them. Return how many."""
        statuses, skipped, undecodable = _decode(batches)
        for project_id, found in statuses.items():
            await self._reports.apply(project_id, found)
        for topic, batch in batches:
            await self._group.acknowledge(topic, batch)
        self.applied += sum(map(len, statuses.values()))
        self.skipped += skipped
        for topic, errors in undecodable.items():
            self._report_undecodable(topic, errors)
        return sum(len(batch) for _, batch in batches)

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

    def _set_back(self, topic: str, error: Exception) -> None:
        """Retry a stream later, from the entries that were read and not acknowledged."""
        stream = self._streams[topic]
        stream.recovered = False
        stream.failures += 1
        stream.retry_at = monotonic() + min(_FIRST_PAUSE_S * 2 ** min(stream.failures, 9), _MAX_PAUSE_S)
        self._group.forget(topic)
        if not self.paused:
            self.paused = True
            self._log.warning("indexer.paused", error=type(error).__name__, reason=str(error))

    def _resume(self, topic: str) -> None:
        self._streams[topic].failures = 0
        if self.paused and not any(stream.failures for stream in self._streams.values()):
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

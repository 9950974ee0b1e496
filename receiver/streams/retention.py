"""Trims streams by age, but not past an entry that a consumer group still needs, unless the hard cap is reached.

Dead letters are counted, and trimmed at the hard cap alone.

The script reads the groups and trims in one step, so no group can be created or read in between. One replica at a time
trims a topic, which a lease decides; services that share a Redis trim their own topics independently. Every replica
creates the configured groups and reports their backlog. A failing topic is logged and does not hold up the others.
"""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from redis.exceptions import ClusterDownError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from receiver.redis_client import Script, by_primary, on
from receiver.redis_connection import concerns_whole_redis
from receiver.routing import QUARANTINE
from receiver.streams.consumer_groups import ConsumerGroups
from receiver.streams.dead_letters import count_dead_letters, dead_letters_of, topic_of
from receiver.streams.gauges import Memory, TopicGauges
from receiver.streams.memory import RedisMemory
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from receiver.log import Logger
    from receiver.redis_client import Client
    from receiver.streams.gauges import TopicFigures

SCRIPT: Final = files("receiver.streams").joinpath("trim.lua").read_text()
#: Seconds between rounds.
ROUND: Final = 2.0
#: Milliseconds for which the lease of a topic outlives a replica that died.
_LEASE_MS: Final = 10_000
#: Entries removed by one script call, which takes about 1 ms.
_STEP: Final = 10_000
#: Seconds that Redis may take for one topic, and for one step of trimming.
_REDIS_TIMEOUT: Final = 5.0
_QUARANTINE: Final = f":{QUARANTINE}"
_AWAY: Final = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)


class Retention:
    """Creates the configured groups, measures their backlog, and trims, in rounds."""

    def __init__(  # noqa: PLR0913 the streams, and the limits that apply to them
        self,
        client: Client,
        topics: Callable[[], Mapping[str, tuple[str, ...]]],
        retention: float,
        max_entries: int,
        logger: Logger,
        *,
        routed: Callable[[], Collection[str]] | None = None,
        pause: float = ROUND,
    ) -> None:
        """``topics`` returns each topic with the groups that it must have.

        Entries older than ``retention`` seconds are trimmed; ``max_entries`` is the hard cap. ``routed`` returns the
        topics that events are routed to, by default all of them; other topics have metrics only while they hold
        entries. ``pause``: seconds between rounds.
        """
        self._topics = topics
        self._routed = routed or topics
        self._retention_ms = int(retention * 1000)
        self._max_entries = max_entries
        self._logger = logger
        self._pause = pause
        self._me = uuid4().hex
        self.gauges = TopicGauges(max_entries)
        self._client = client
        self._memory = RedisMemory(logger)
        self._groups = ConsumerGroups(client, logger)
        self._trim = Script(client, SCRIPT)
        self._problems: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the rounds."""
        self._task = asyncio.create_task(self._run(), name="retention")

    async def close(self) -> None:
        """Stop the rounds. The client stays open."""
        await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            failures: Sequence[BaseException]
            try:
                failures = await self._round()
            except Exception as error:  # noqa: BLE001 any: if this task ended, streams would grow until Redis is full
                failures = [error]
            for failure in failures:
                if _is_away(failure):
                    self._logger.debug("retention.paused", error=str(failure))
                else:
                    self._logger.error("retention.failed", exc_info=failure)
            await asyncio.sleep(self._pause)

    async def _round(self) -> list[BaseException]:
        """Go through all topics. Return why those of a primary were left out, if they were."""
        topics = self._topics()
        self.gauges.routed = frozenset(self._routed())
        found: dict[str, TopicFigures] = {}
        memory = Memory({}, {})
        aside = [dead_letters_of(topic) for topic in topics if not topic.endswith(_QUARANTINE)]
        letters = dict(self.gauges.dead_letters)
        rounds = [
            self._maintain_primary({topic: topics[topic] for topic in own}, found, memory)
            for own in by_primary(self._client, topics)
        ]
        rounds += [self._maintain_dead_letters(own, letters) for own in by_primary(self._client, aside) if own]
        # All at once: a primary that hangs holds up its own topics only.
        failures = [failure for failure in await asyncio.gather(*rounds, return_exceptions=True) if failure is not None]
        if len(failures) < len(rounds) or not rounds:
            self.gauges.topics, self.gauges.memory = found, memory
            shown = {topic for topic, count in letters.items() if count and topic in topics} | self.gauges.routed
            self.gauges.dead_letters = {topic: count for topic, count in letters.items() if topic in shown}
        return failures

    async def _maintain_dead_letters(self, keys: list[str], letters: dict[str, int]) -> None:
        """Count those of one primary, and trim at the hard cap. While it is away their last counts stay."""
        try:
            async with asyncio.timeout(_REDIS_TIMEOUT):
                for key, count in (await count_dead_letters(self._client, keys)).items():
                    letters[topic_of(key)] = count
                    if count > self._max_entries:
                        self._count_unread(key, await on(self._client, key).xtrim(key, maxlen=self._max_entries))
        except ClusterDownError:
            return  # as of the topics themselves, whose round logs it
        except Exception as error:
            if _is_away(error):
                raise
            self._log_once(keys[0], error)
        else:
            self._problems.pop(keys[0], None)

    async def _maintain_primary(
        self, topics: Mapping[str, tuple[str, ...]], found: dict[str, TopicFigures], memory: Memory
    ) -> None:
        """Go through the topics of one primary. While it is away their last figures stay."""
        left = dict(topics)
        try:
            for topic, groups in topics.items():
                await self._maintain_topic(topic, groups, found)
                del left[topic]
            entries = {topic: found[topic].entries for topic in topics if topic in found}
            if entries:
                async with asyncio.timeout(_REDIS_TIMEOUT):
                    await self._memory.measure(on(self._client, next(iter(entries))), entries, memory)
        except Exception:
            found |= {topic: figures for topic, figures in self.gauges.topics.items() if topic in left}
            raise

    async def _maintain_topic(self, topic: str, groups: tuple[str, ...], found: dict[str, TopicFigures]) -> None:
        try:
            async with asyncio.timeout(_REDIS_TIMEOUT):
                seen = await self._groups.reconcile(topic, groups)
            if seen.entries or topic in self.gauges.routed:
                found[topic] = seen
            await self._trim_topic(topic)
        except Exception as error:  # of this topic alone: log it, and go on with the next topic
            if _is_away(error):
                raise
            self._log_once(topic, error)
        else:
            self._problems.pop(topic, None)

    def _log_once(self, topic: str, error: Exception) -> None:
        """Log the error of a topic unless the last one logged for it is the same."""
        problem = f"{type(error).__name__}: {error}"
        if self._problems.get(topic) == problem:
            return
        self._problems[topic] = problem
        # An operator fixes what Redis refuses. Any other error is a bug of ours, and needs a traceback.
        traceback = None if isinstance(error, RedisError) else error
        self._logger.error("retention.topic_failed", topic=topic, error=problem, exc_info=traceback)

    async def _trim_topic(self, topic: str) -> None:
        while True:
            async with asyncio.timeout(_REDIS_TIMEOUT):
                arguments: list[Any] = [self._retention_ms, self._max_entries, _STEP, self._me, _LEASE_MS]
                aged, unread = await self._trim([topic, lease_key(topic)], arguments)
            self.gauges.count_trimmed(topic, aged, 0)
            self._count_unread(topic, unread)
            if aged + unread < _STEP // 2:
                return

    def _count_unread(self, topic: str, count: int) -> None:
        self.gauges.count_trimmed(topic, 0, count)
        if count:
            self._logger.error("stream.unread_trimmed", topic=topic, count=count, cap_count=self._max_entries)


def lease_key(topic: str) -> str:
    """Return the key of a topic's lease. The topic in braces puts it into the cluster slot of the stream."""
    return f"{{{topic}}}:trimmer"


def _is_away(error: BaseException) -> bool:
    """Tell whether Redis is down or refuses every topic. Delivery logs that."""
    return isinstance(error, _AWAY) or concerns_whole_redis(error)

"""Streams are trimmed by age, never past what a consumer group still needs, short of the hard cap.

The script looks at the groups and trims in one step, so no group can be created or read in between. A topic is trimmed
by one replica at a time, whichever comes first; services that share a Redis and have topics of their own do not wait
for each other. Each looks after the configured groups and reports how far behind they are. What is wrong with one topic
is said, and holds up no other.
"""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from receiver.redis_connection import concerns_whole_redis
from receiver.streams.consumer_groups import ConsumerGroups
from receiver.streams.gauges import TopicGauges
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from redis.asyncio import Redis

    from receiver.log import Logger
    from receiver.streams.gauges import TopicFigures

SCRIPT: Final = files("receiver.streams").joinpath("trim.lua").read_text()
#: Seconds between rounds, and the time that the lease of a topic outlives a replica that died.
ROUND: Final = 2.0
_LEASE_MS: Final = 10_000
#: Entries removed by one script call, which takes about 1 ms.
_STEP: Final = 10_000
#: Longest that Redis may take to answer a question of ours, in seconds.
_REDIS_TIMEOUT: Final = 5.0
_AWAY: Final = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)


class Retention:
    """Looks after the streams: groups that must exist, their lag, and the trimming."""

    def __init__(  # noqa: PLR0913 what it looks after, and by which rules
        self,
        client: Redis,
        topics: Callable[[], Mapping[str, tuple[str, ...]]],
        retention: float,
        max_entries: int,
        logger: Logger,
        *,
        routed: Callable[[], Collection[str]] | None = None,
        pause: float = ROUND,
    ) -> None:
        """Take a function that returns each topic with the groups it must have, the age in seconds, the hard cap.

        ``routed`` returns the topics that events are routed to, unless these are all topics; others have metrics only
        while they hold entries. ``pause``: seconds between rounds.
        """
        self._topics = topics
        self._routed = routed or topics
        self._retention_ms = int(retention * 1000)
        self._most = max_entries
        self._logger = logger
        self._pause = pause
        self._me = uuid4().hex
        self.gauges = TopicGauges()
        self._groups = ConsumerGroups(client, logger)
        self._trim = client.register_script(SCRIPT)
        self._problems: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="retention")

    async def close(self) -> None:
        """Stop."""
        await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            try:
                await self._round()
            except Exception as error:  # whatever it is: when this task ends, streams grow until Redis is full
                if _is_away(error):
                    self._logger.debug("retention.paused", error=str(error))
                else:
                    self._logger.exception("retention.failed")
            await asyncio.sleep(self._pause)

    async def _round(self) -> None:
        topics = self._topics()
        routed = self.gauges.routed = frozenset(self._routed())
        found: dict[str, TopicFigures] = {}
        for topic, groups in topics.items():
            try:
                async with asyncio.timeout(_REDIS_TIMEOUT):
                    seen = await self._groups.reconcile(topic, groups)
                if seen.entries or topic in routed:
                    found[topic] = seen
                await self._trim_topic(topic)
            except Exception as error:  # of this topic alone: it is logged, and the others have their turn
                if _is_away(error):
                    raise
                self._complain(topic, error)
            else:
                self._problems.pop(topic, None)
        self.gauges.topics = found

    def _complain(self, topic: str, error: Exception) -> None:
        """Log what is wrong with a topic: once, and again when it is something else."""
        problem = f"{type(error).__name__}: {error}"
        if self._problems.get(topic) == problem:
            return
        self._problems[topic] = problem
        # What Redis refuses is an operator's matter, and anything else one of our own code.
        traceback = None if isinstance(error, RedisError) else error
        self._logger.error("retention.topic_failed", topic=topic, error=problem, exc_info=traceback)

    async def _trim_topic(self, topic: str) -> None:
        while True:
            async with asyncio.timeout(_REDIS_TIMEOUT):
                arguments: list[Any] = [self._retention_ms, self._most, _STEP, self._me, _LEASE_MS]
                aged, unread = await self._trim(keys=[topic], args=arguments)
            self.gauges.count_trimmed(topic, aged, unread)
            if unread:
                self._logger.error("stream.unread_trimmed", topic=topic, count=unread, cap_count=self._most)
            if aged + unread < _STEP // 2:
                return


def _is_away(error: Exception) -> bool:
    """Tell whether Redis takes nothing, of any topic. Delivery logs that."""
    return isinstance(error, _AWAY) or concerns_whole_redis(error)

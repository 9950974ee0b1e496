"""Streams are trimmed by age, never past what a consumer group still needs, short of the hard cap.

The script looks at the groups and trims in one step, so no group can be created or read in between. One replica at a
time trims; each looks after the configured groups and reports how far behind they are.
"""

from __future__ import annotations

import asyncio
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from redis.exceptions import RedisError, ResponseError

from receiver import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.asyncio import Redis

    from receiver.log import Logger

SCRIPT: Final = files("receiver.delivery").joinpath("trim.lua").read_text()
#: Seconds between rounds, and the time that a lease outlives a replica that died.
ROUND: Final = 2.0
_LEASE_MS: Final = 10_000
_LEASE: Final = "receiver:retention:lease"
#: Entries removed by one script call, which takes about 1 ms.
_STEP: Final = 10_000
#: Longest that Redis may take to answer a question of ours, in seconds.
_PATIENCE: Final = 5.0


class Retention:
    """Looks after the streams: groups that must exist, their lag, and the trimming."""

    def __init__(
        self,
        client: Redis,
        topics: Callable[[], Mapping[str, tuple[str, ...]]],
        retention: float,
        most_entries: int,
        logger: Logger,
    ) -> None:
        """Take a function that returns each topic with the groups it must have, the age in seconds, the hard cap."""
        self._client = client
        self._topics = topics
        self._retention = retention
        self._most = most_entries
        self._logger = logger
        self._me = uuid4().hex
        self._trim = client.register_script(SCRIPT)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="retention")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                await self._round()
            except (RedisError, OSError, TimeoutError) as error:
                self._logger.debug("retention.paused", error=str(error))
            await asyncio.sleep(ROUND)

    async def _round(self) -> None:
        async with asyncio.timeout(_PATIENCE):
            mine = await self._hold_lease()
        for topic, groups in self._topics().items():
            async with asyncio.timeout(_PATIENCE):
                await self._look_after(topic, groups)
            if mine:
                await self._trim_topic(topic)

    async def _hold_lease(self) -> bool:
        if await self._client.set(_LEASE, self._me, nx=True, px=_LEASE_MS):
            return True
        if await self._client.get(_LEASE) != self._me.encode():
            return False
        return bool(await self._client.pexpire(_LEASE, _LEASE_MS))

    async def _look_after(self, topic: str, wanted: tuple[str, ...]) -> None:
        """Create missing groups at 0, so that they miss nothing, and report how far behind each group is."""
        groups = await self._groups(topic)
        for name in wanted:
            if name not in groups:
                await self._create(topic, name)
        metrics.STREAM_ENTRIES.labels(topic).set(await self._client.xlen(topic))
        for name, group in groups.items():
            metrics.GROUP_PENDING.labels(topic, name).set(group["pending"])
            if group.get("lag") is not None:
                metrics.GROUP_LAG.labels(topic, name).set(group["lag"])
            metrics.GROUP_OLDEST.labels(topic, name).set(await self._oldest_age(topic, name, group))

    async def _groups(self, topic: str) -> dict[str, dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = await self._client.xinfo_groups(topic)
        except ResponseError:  # no such key
            return {}
        return {group["name"].decode(): group for group in found}

    async def _create(self, topic: str, name: str) -> None:
        try:
            await self._client.xgroup_create(topic, name, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                self._logger.error("group.not_created", topic=topic, group=name, error=str(error))  # noqa: TRY400
        else:
            self._logger.info("group.created", topic=topic, group=name)

    async def _oldest_age(self, topic: str, name: str, group: dict[str, Any]) -> float:
        """Return the age in seconds of the oldest entry that a group has not acknowledged; 0 when there is none."""
        if group["pending"]:
            oldest = (await self._client.xpending(topic, name))["min"]
        else:
            start = b"(" + group["last-delivered-id"]
            unread = await self._client.xrange(topic, start.decode(), "+", count=1)
            oldest = unread[0][0] if unread else None
        if oldest is None:
            return 0.0
        return max(0.0, time.time() - int(bytes(oldest).partition(b"-")[0]) / 1000)

    async def _trim_topic(self, topic: str) -> None:
        while True:
            keep_from = int((time.time() - self._retention) * 1000)
            async with asyncio.timeout(_PATIENCE):
                arguments: list[Any] = [max(0, keep_from), self._most, _STEP]
                aged, unread = await self._trim(keys=[topic], args=arguments)
            metrics.TRIMMED.labels(topic).inc(aged)
            metrics.UNREAD_TRIMMED.labels(topic).inc(unread)
            if unread:
                self._logger.error("stream.unread_trimmed", topic=topic, count=unread, cap_count=self._most)
            if aged + unread < _STEP // 2:
                return

"""Makes events safe: in Redis, else on disk. ``store`` decides the ack."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from receiver.delivery.breaker import Breaker
from receiver.delivery.drain import Drain
from receiver.delivery.group_commit import GroupCommit
from receiver.delivery.publisher import Publisher, connect
from receiver.errors import UnavailableError, WriteFailedError
from receiver.spool.spool import Spool
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from receiver.events import Entry
    from receiver.log import Logger
    from receiver.settings import Settings

#: Seconds that a write to the spool may take.
_SPOOL_TIMEOUT: Final = 0.7
#: Seconds that Redis may take for a batch from the spool: no callback waits for it.
_DRAIN_TIMEOUT: Final = 5.0
#: Connections that drain the spool.
_DRAINERS: Final = 4


class Delivery:
    """Takes entries and returns when they are safe."""

    def __init__(self, settings: Settings, redis_url: str, logger: Logger) -> None:
        """Wire the parts; ``open`` does the first I/O."""
        self._client = connect(redis_url)
        self._publisher = Publisher(self._client, settings.publish_timeout, settings.dedupe_window)
        drain_timeout = max(_DRAIN_TIMEOUT, settings.publish_timeout)
        self._drainers = [Publisher(self._client, drain_timeout, settings.dedupe_window) for _ in range(_DRAINERS)]
        self._prober = Publisher(self._client, settings.publish_timeout, settings.dedupe_window)
        self._publishers = (self._publisher, *self._drainers, self._prober)
        self._redis = GroupCommit(self._publisher.write)
        self.breaker = Breaker(self._prober.probe, self._changed, logger)
        self.spool = Spool(settings.data_dir / "spool", settings.spool_max_bytes // settings.workers, logger)
        self._disk = GroupCommit(self.spool.write)
        self._drain = Drain(self.spool, self._drainers, self.breaker, logger)
        self._healing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the spool, probe Redis, start to drain. The start succeeds without Redis; raises SettingsError."""
        await self.spool.open()
        self._redis.start()
        self._disk.start()
        try:
            await self._prober.probe()
        except WriteFailedError as error:
            self.breaker.trip(error)
        self.breaker.start(lambda: self._publisher.taken_at)
        self._drain.start()
        self._healing = asyncio.create_task(self.spool.keep_healthy(self._changed), name="heal spool")
        self._changed()

    async def close(self) -> None:
        """Make handed-in events safe, then close Redis and the spool."""
        await self._redis.close()
        await self._disk.close()
        await cancel_and_wait(self._healing)
        await self._drain.close()
        await self.breaker.close()
        for publisher in self._publishers:
            await publisher.close()
        await self._client.aclose()
        await self.spool.close()

    def unfinished(self) -> dict[str, int]:
        """Return the unfinished work, for the log of a stop.

        The events were handed in and are not known to be safe. None of them is acknowledged.
        The files of the spool were removed while in use and are not copied yet. Their events are acknowledged.
        """
        return {
            "redis_events": self._redis.events,
            "spool_events": self._disk.events,
            "files_not_copied": self.spool.not_copied,
        }

    async def store(self, entries: list[Entry], size: int) -> None:
        """Return when every entry is safe: Redis has replied, or the disk has synced. The ack depends on nothing else.

        ``size``: the bytes of the callback. Raises UnavailableError when neither takes the entries. Redis may have
        stored them after a timeout; they are recognised as duplicates when the spool or the provider sends them again.
        """
        if self.breaker.closed:
            try:
                await self._redis.commit(entries, size)
            except WriteFailedError as error:
                if error.topic is None:
                    self.breaker.trip(error)
            else:
                return
        try:
            async with asyncio.timeout(_SPOOL_TIMEOUT):
                await self._disk.commit(entries, size)
        except (WriteFailedError, TimeoutError) as error:
            raise UnavailableError("neither Redis nor the spool can take events now; send again later") from error

    @property
    def route(self) -> str:
        """The destination of events now: ``redis``, ``spool`` or ``refuse``."""
        if self.breaker.closed:
            return "redis"
        return "spool" if self.spool.writable else "refuse"

    def _changed(self, error: WriteFailedError | None = None) -> None:
        if self.breaker.closed:
            self._drain.wake()
        elif error is not None and error.reason != "timeout":  # on a slow network all connections are good
            for publisher in self._publishers:
                publisher.renew()

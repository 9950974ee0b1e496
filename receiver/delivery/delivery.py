"""Makes events safe: in Redis, else on disk. No callback is acknowledged before ``store`` has returned."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from receiver.delivery.drain import Drain
from receiver.delivery.group_commit import GroupCommit
from receiver.delivery.topology import topology
from receiver.errors import MOVED, UnavailableError, WriteFailedError
from receiver.spool.spool import Spool
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from receiver.delivery.group_commit import Write
    from receiver.delivery.node import Node
    from receiver.events import Entry
    from receiver.log import Logger
    from receiver.settings import Settings

    #: A node, its part of a callback's entries, and when they are safe.
    _HandedIn = tuple[Node, list[Entry], asyncio.Future[Mapping[str, WriteFailedError]]]

#: Seconds that a write to the spool may take.
_SPOOL_TIMEOUT: Final = 0.7


class Delivery:
    """Takes entries and returns when they are safe."""

    def __init__(
        self,
        settings: Settings,
        redis_url: str,
        logger: Logger,
        group_commit: Callable[[Write, str], GroupCommit] = GroupCommit,
    ) -> None:
        """Wire the parts; ``open`` does the first I/O. ``group_commit`` is what collects entries into writes."""
        self._primaries = topology(redis_url, settings, self._changed, logger, group_commit)
        self.spool = Spool(
            settings.data_dir / "spool",
            settings.spool_max_bytes // settings.workers,
            logger,
            processes=settings.workers,
        )
        self._disk = group_commit(self.spool.write, "spool")
        self._drain = Drain(self.spool, self._primaries, logger)
        self._healing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the spool, probe Redis, start to drain. The start succeeds without Redis; raises SettingsError."""
        self._clock = asyncio.get_running_loop().time
        await self.spool.open()
        self._disk.start()
        await self._primaries.open()
        self._drain.start()
        self._healing = asyncio.create_task(self.spool.keep_healthy(self._changed), name="heal spool")
        self._changed()

    async def close(self) -> None:
        """Make handed-in events safe, then close Redis and the spool."""
        await self._primaries.finish()
        await self._disk.close()
        await cancel_and_wait(self._healing)
        await self._drain.close()
        await self._primaries.close()
        await self.spool.close()

    def unfinished(self) -> dict[str, int]:
        """Return the unfinished work, for the log of a stop.

        The events were handed in and are not known to be safe. None of them is acknowledged.
        The files of the spool were removed while in use and are not copied yet. Their events are acknowledged.
        """
        return {
            "redis_events": sum(node.events for node in self._primaries.nodes),
            "spool_events": self._disk.events,
            "files_not_copied": self.spool.not_copied,
        }

    async def store(self, entries: list[Entry], size: int) -> None:
        """Return when every entry is safe: Redis has replied, or the disk has synced. The ack depends on nothing else.

        ``size``: the bytes of the callback. Raises UnavailableError when neither takes the entries. Redis may have
        stored them after a timeout; they are recognised as duplicates when the spool or the provider sends them again.
        """
        left = await self._publish(entries, size, self._clock())
        if not left:
            return
        try:
            async with asyncio.timeout(_SPOOL_TIMEOUT):
                await self._disk.commit(left, size)
        except (WriteFailedError, TimeoutError) as error:
            raise UnavailableError("neither Redis nor the spool can take events now; send again later") from error

    async def _publish(self, entries: list[Entry], size: int, since: float, *, follow: bool = True) -> list[Entry]:
        """Hand each primary its part. Return the entries that are not safe with theirs.

        ``since``: when the callback came, on the loop's clock: one deadline holds for all of it. ``follow``: hand the
        entries of a slot that has moved in once more.
        """
        left: list[Entry] = []
        moved: list[Entry] = []
        handed_in: list[_HandedIn] = []
        for node, part in self._primaries.split(entries):
            if node is None or not node.breaker.closed:
                left += part
            else:
                handed_in.append((node, part, node.commit(part, size, since)))
        if len(handed_in) > 1:
            _trip_at_once(handed_in)
        for node, part, done in handed_in:
            try:
                failed = await done
            except WriteFailedError as error:
                if len(handed_in) == 1:
                    node.breaker.trip(error)
                left += part
                continue
            if failed:
                for entry in part:
                    if (problem := failed.get(entry.topic)) is not None:
                        (moved if follow and problem.reason == MOVED else left).append(entry)
        return left + await self._publish(moved, size, since, follow=False) if moved else left

    @property
    def takes_writes(self) -> bool:
        """Whether Redis takes the events of every topic."""
        return self._primaries.takes_writes

    @property
    def primaries(self) -> dict[str, bool]:
        """Whether each primary takes writes, by name."""
        return {node.name: node.takes_writes for node in self._primaries.nodes}

    @property
    def route(self) -> str:
        """The destination of events now, the worst of all topics: ``redis``, ``spool`` or ``refuse``."""
        if self.takes_writes:
            return "redis"
        return "spool" if self.spool.writable else "refuse"

    def _changed(self) -> None:
        self._drain.retry()


def _trip_at_once(handed_in: list[_HandedIn]) -> None:
    """Open the breaker of each node as soon as its write fails, not when those in front of it have answered."""
    for node, _, done in handed_in:
        done.add_done_callback(partial(_trip_if_failed, node))


def _trip_if_failed(node: Node, done: asyncio.Future[Mapping[str, WriteFailedError]]) -> None:
    error = None if done.cancelled() else done.exception()
    if isinstance(error, WriteFailedError):
        node.breaker.trip(error)

"""A primary, and what serves it alone: its connections, its group commit, its breaker.

So a primary that is away or slow holds up its own topics only.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from receiver.delivery.breaker import Breaker
from receiver.delivery.publisher import Publisher
from receiver.errors import WriteFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.asyncio import Redis

    from receiver.delivery.group_commit import GroupCommit, Write
    from receiver.events import Entry
    from receiver.log import Logger
    from receiver.settings import Settings

#: Events that one connection publishes at a time from the spool: ten script calls, between which Redis serves live
#: traffic.
BATCH: Final = 1000
#: Connections that drain the spool. Redis reads 16 kB of a connection at a time and fsyncs in between what other
#: connections have written: with live traffic, and a disk that takes 4 ms to sync, one connection gets 20,000 events a
#: second through.
DRAINERS: Final = 4
#: Seconds that Redis may take for a batch from the spool: no callback waits for it.
_DRAIN_TIMEOUT: Final = 5.0


class Node:
    """One primary."""

    def __init__(  # noqa: PLR0913 its name, its client, its settings and its callbacks
        self,
        name: str,
        client: Redis,
        settings: Settings,
        changed: Callable[[WriteFailedError | None], None],
        logger: Logger,
        *,
        group_commit: Callable[[Write, str], GroupCommit],
        moves: bool = False,
    ) -> None:
        """Create the parts; ``start`` does the first I/O. The node closes ``client``.

        ``changed`` is called when the primary has gone away, with the reason, or come back. ``moves``: each connect may
        lead to another server, so an outage ends with new connections.
        """
        self.name = name
        self._client = client
        window, timeout, replicas = settings.dedupe_window, settings.publish_timeout, settings.replicas
        drain_timeout = max(_DRAIN_TIMEOUT, timeout)
        self._publisher = Publisher(client, timeout, window, replicas)
        self._drainers = [Publisher(client, drain_timeout, window, replicas) for _ in range(DRAINERS)]
        self._prober = Publisher(client, timeout, window, replicas)
        self._changed = changed
        self._moves = moves
        self._group = group_commit(self._publisher.write, name)
        #: Queues the entries of a callback.
        self.commit = self._group.commit
        self.breaker = Breaker(self._probe, self._on_change, logger)
        #: The key that a probe writes to. In a cluster it is in a slot of this node.
        self.probe_key = b"receiver:probe"
        self._draining: asyncio.Future[list[Mapping[str, WriteFailedError] | BaseException]] | None = None

    @property
    def takes_writes(self) -> bool:
        """Whether the last write or probe succeeded."""
        return self.breaker.closed

    @property
    def events(self) -> int:
        """How many events of callbacks wait or are being written."""
        return self._group.events

    def start(self) -> None:
        """Start to commit, and to watch the primary."""
        self._group.start()
        self.breaker.start(lambda: self._publisher.taken_at)

    async def probe(self) -> None:
        """Find out whether the primary takes writes."""
        try:
            await self._probe()
        except WriteFailedError as error:
            self.breaker.trip(error)

    async def drain(self, entries: list[Entry]) -> Mapping[str, WriteFailedError]:
        """Publish entries of the spool over several connections. Return the topics that refuse.

        Raises WriteFailedError when the primary takes no write, or goes away meanwhile.
        """
        parts = [entries[at : at + BATCH] for at in range(0, len(entries), BATCH)]
        failed: dict[str, WriteFailedError] = {}
        for at in range(0, len(parts), DRAINERS):
            for refused in await self._drain_some(parts[at : at + DRAINERS]):
                failed |= refused
        return failed

    async def _drain_some(self, parts: list[list[Entry]]) -> list[Mapping[str, WriteFailedError]]:
        writes = (publisher.write(part) for publisher, part in zip(self._drainers, parts, strict=False))
        draining = self._draining = asyncio.gather(*writes, return_exceptions=True)
        try:
            results = await draining
        except asyncio.CancelledError:
            for publisher in self._drainers:
                await publisher.close()  # a reply may still come, and the next write would take it for its own
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise WriteFailedError("away", f"{self.name} went away while its events were drained") from None
        finally:
            self._draining = None
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if not isinstance(result, BaseException)]

    async def finish(self) -> None:
        """Make handed-in events safe, and take no more."""
        await self._group.close()

    async def close(self) -> None:
        """Close the connections. What is being drained stays in the spool."""
        await self.breaker.close()
        if self._draining is not None:
            self._draining.cancel()
        for publisher in (self._publisher, *self._drainers, self._prober):
            await publisher.close()
        await self._client.aclose()

    async def _probe(self) -> None:
        await self._prober.probe(self.probe_key)

    def _on_change(self, error: WriteFailedError | None) -> None:
        if error is not None and self._draining is not None:
            self._draining.cancel()
        # On a slow network all connections are good. Those to a primary of before lead nowhere.
        if self._moves if error is None else error.reason != "timeout":
            for publisher in (self._publisher, *self._drainers, self._prober):
                publisher.renew()
        self._changed(error)

"""The circuit breaker: the first failed write opens it, and probes, one at a time, find out when Redis is back.

Without traffic no write fails. So an idle Redis is probed as well, and the service notices within seconds that Redis
has ended, hangs or cannot be reached.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from receiver.errors import WriteFailedError
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from receiver.log import Logger

#: Seconds between probes, doubled up to the longest. Jitter keeps replicas from probing in step.
FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
#: Seconds without a successful write after which Redis is probed. A probe takes 1.2 s at most, so an idle service
#: notices within 4 s.
IDLE: Final = 2.0


class Breaker:
    """Closed: Redis takes writes. Open: it does not, and callbacks skip it."""

    def __init__(
        self, probe: Callable[[], Awaitable[None]], changed: Callable[[WriteFailedError | None], None], logger: Logger
    ) -> None:
        """``probe`` writes to Redis. ``changed`` is called after a change of state: with the error that opened it."""
        self.closed = True
        #: Why it is open, or was last.
        self.error: WriteFailedError | None = None
        self._probe = probe
        self._changed = changed
        self._logger = logger
        self._lock = asyncio.Lock()  # the prober has one connection
        self._probing: asyncio.Task[None] | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._ended = False

    def start(self, taken_at: Callable[[], float]) -> None:
        """Start probing an idle Redis. ``taken_at`` returns when the last write succeeded, on the loop's clock."""
        self._heartbeat = asyncio.create_task(self._beat(taken_at), name="heartbeat")

    def trip(self, error: WriteFailedError) -> None:
        """Open, for this reason, and start probing. Calls while it is open, or after ``close``, change nothing."""
        if not self.closed or self._ended:
            return
        self.closed, self.error = False, error
        self._logger.warning("redis.away", reason=error.reason, error=str(error))
        self._changed(error)
        self._probing = asyncio.create_task(self._probe_until_back(), name="probe")

    async def close(self) -> None:
        """Stop probing, for good: writes that still fail start no other probe."""
        self._ended = True
        await cancel_and_wait(self._heartbeat, self._probing)

    async def _beat(self, taken_at: Callable[[], float]) -> None:
        clock = asyncio.get_running_loop().time
        probed_at = clock()
        while True:
            await asyncio.sleep(max(taken_at(), probed_at) + IDLE - clock())
            if clock() - taken_at() < IDLE:
                continue
            if self.closed:
                try:
                    await self._probe_alone()
                except WriteFailedError as error:
                    self.trip(error)
            probed_at = clock()

    async def _probe_alone(self) -> None:
        async with self._lock:
            await self._probe()

    async def _probe_until_back(self) -> None:
        loop = asyncio.get_running_loop()
        away_since = loop.time()
        wait = FIRST_WAIT
        while not self.closed:
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 jitter needs no secrecy
            wait = min(2 * wait, LONGEST_WAIT)
            try:
                await self._probe_alone()
            except WriteFailedError as error:
                self._logger.debug("redis.still_away", reason=error.reason, error=str(error))
            else:
                self.closed = True
        self._logger.warning("redis.back", away_seconds=round(loop.time() - away_since, 3))
        self._changed(None)

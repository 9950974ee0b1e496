"""Whether Redis takes writes. The first failure opens the breaker; one probe at a time finds out when it is back.

Without traffic nothing fails. A Redis that has taken no write for a while is probed too, so that an idle service knows
within seconds that Redis has ended, hangs, or is cut off.
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

#: Seconds between probes: doubled from the first to the last, with jitter so that replicas do not probe in step.
FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
#: Seconds without a write that Redis took, after which it is probed. A probe takes 1.2 s at most, so an idle service
#: knows within 4 s.
IDLE: Final = 2.0


class Breaker:
    """Closed: Redis takes writes. Open: it does not, and callbacks do not try."""

    def __init__(self, probe: Callable[[], Awaitable[None]], changed: Callable[[], None], logger: Logger) -> None:
        """Take the write that probes, and what to call when the state has changed."""
        self.closed = True
        self._probe = probe
        self._changed = changed
        self._logger = logger
        self._turn = asyncio.Lock()  # the probe has one connection
        self._probing: asyncio.Task[None] | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    def start(self, taken_at: Callable[[], float]) -> None:
        """Begin to probe an idle Redis. ``taken_at`` returns when Redis took the last write, by the loop's clock."""
        self._heartbeat = asyncio.create_task(self._beat(taken_at), name="heartbeat")

    def trip(self, error: WriteFailedError) -> None:
        """Open, for this reason. The first call starts the probes; further ones change nothing."""
        if not self.closed:
            return
        self.closed = False
        self._logger.warning("redis.away", reason=error.reason, error=str(error))
        self._changed()
        self._probing = asyncio.create_task(self._probe_until_back(), name="probe")

    async def close(self) -> None:
        """Stop probing."""
        await cancel_and_wait(self._heartbeat, self._probing)

    async def _beat(self, taken_at: Callable[[], float]) -> None:
        clock = asyncio.get_running_loop().time
        looked_at = clock()
        while True:
            await asyncio.sleep(max(taken_at(), looked_at) + IDLE - clock())
            if clock() - taken_at() < IDLE:
                continue
            if self.closed:
                try:
                    await self._probe_alone()
                except WriteFailedError as error:
                    self.trip(error)
            looked_at = clock()

    async def _probe_alone(self) -> None:
        async with self._turn:
            await self._probe()

    async def _probe_until_back(self) -> None:
        loop = asyncio.get_running_loop()
        away_since = loop.time()
        wait = FIRST_WAIT
        while not self.closed:
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 jitter is no secret
            wait = min(2 * wait, LONGEST_WAIT)
            try:
                await self._probe_alone()
            except WriteFailedError as error:
                self._logger.debug("redis.still_away", reason=error.reason, error=str(error))
            else:
                self.closed = True
        self._logger.warning("redis.back", away_seconds=round(loop.time() - away_since, 3))
        self._changed()

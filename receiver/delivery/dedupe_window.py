"""Tells which dedupe window is in force on a Redis: services announce theirs, and commands that publish take it over.

The sets of seen ids are named by the number of their window. A process with another window looks into other sets, and
takes events that are in their stream for new ones. So a change of RECEIVER_DEDUPE_WINDOW forgets all ids, which the
service logs, and a command that is run without the variable has to find out the window of the service.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError, ResponseError

from receiver.redis_client import on
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from receiver.log import Logger
    from receiver.redis_client import Client

#: Holds the window of the service that announced its own last, in seconds. After two windows its ids are forgotten
#: anyway, and so is the key.
KEY: Final = "receiver:dedupe-window"
#: Seconds until it is announced again, where Redis has not answered, and for Redis to answer.
_RETRY: Final = 10.0
_REDIS_TIMEOUT: Final = 0.5
_ADVICE: Final = (
    "ids seen in the other window are not recognised: an event that was published before and is sent again is added "
    "again; give all services and commands on this Redis the same RECEIVER_DEDUPE_WINDOW"
)


class DedupeWindow:
    """Announces the window of this service, and logs if another one was in force."""

    def __init__(self, client: Client, seconds: float, logger: Logger) -> None:
        """``seconds`` is the window."""
        self._client = client
        self._seconds = int(seconds)
        self._logger = logger
        self._renewing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Announce the window: now, or once Redis answers. Renew that before the key expires."""
        announced = await self._try()
        self._renewing = asyncio.create_task(self._renew(announced=announced), name="dedupe window")

    async def close(self) -> None:
        """Stop. The client stays open."""
        await cancel_and_wait(self._renewing)

    async def _renew(self, *, announced: bool) -> None:
        while True:
            await asyncio.sleep(self._seconds if announced else _RETRY)
            announced = await self._try()

    async def _try(self) -> bool:
        try:
            async with asyncio.timeout(_REDIS_TIMEOUT):
                await self._announce()
        except (RedisError, OSError, ValueError, RuntimeError) as error:  # away, or the user may not write this key
            self._logger.debug("dedupe.window_not_announced", error=str(error))
            return False
        return True

    async def _announce(self) -> None:
        before = await on(self._client, KEY).set(KEY, self._seconds, ex=2 * self._seconds, get=True)
        if before is not None and int(before) != self._seconds:
            self._logger.warning(
                "dedupe.window_differs", own_seconds=self._seconds, other_seconds=int(before), advice=_ADVICE
            )


async def window_in_force(client: Client) -> int | None:
    """Return the window of the services on a Redis in seconds, or None if none has announced one.

    Raises the errors of redis-py, unless the user may not read the key.
    """
    try:
        found = await on(client, KEY).get(KEY)
    except ResponseError:
        return None
    return int(found) if found is not None and found.isdigit() and int(found) else None

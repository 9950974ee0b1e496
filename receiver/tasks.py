"""Ends tasks that run until they are cancelled, and asks several at once without waiting for the slowest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

T = TypeVar("T")

#: Seconds until a task that has not ended is cancelled again.
_RETRY: Final = 0.5


async def cancel_and_wait(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks, and return when they have ended.

    Cancel repeatedly: redis-py 8.1.0 loses a cancellation at one moment of opening a connection (related:
    https://github.com/redis/redis-py/issues/2551), and the task would never end.
    """
    left = {task for task in tasks if task is not None and not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_RETRY)


async def answers(
    asking: Iterable[Coroutine[Any, Any, T]], good: Callable[[T], bool], within: float, grace: float
) -> list[T]:
    """Return the answers that have come ``grace`` seconds after the first good one, or ``within`` seconds.

    What has not answered by then is cancelled. The coroutines raise nothing.
    """
    waiting = {asyncio.create_task(one) for one in asking}
    found: list[T] = []
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    try:
        while waiting and loop.time() < end:
            done, waiting = await asyncio.wait(waiting, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            found += [task.result() for task in done]
            if any(map(good, found)):
                end = min(end, loop.time() + grace)
                good = _never
    finally:
        await cancel_and_wait(*waiting)
    return found


def _never(_answer: object) -> bool:
    return False

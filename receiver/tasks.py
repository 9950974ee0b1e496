"""Ends tasks that run until they are cancelled."""

from __future__ import annotations

import asyncio
from typing import Any, Final

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

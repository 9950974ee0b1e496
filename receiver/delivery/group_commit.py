"""Group commit: many callbacks wait, one write serves all of them.

While a write is under way, callers queue up; the next write takes the whole queue. So the cost of a write (a round
trip, an fsync) is shared by as many callbacks as came in during the one before, and nobody waits for a timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.errors import WriteFailedError
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from receiver.events import Entry

#: Events that go into one write. More would make one write hold up the next for long.
MAX_EVENTS: Final = 4000
#: Bytes of callbacks that go into one write, unless a single one is larger: what a slow network or disk can do in time.
MAX_BYTES: Final = 8 << 20


class _Waiter(msgspec.Struct, frozen=True):
    entries: list[Entry]
    size: int
    since: float
    done: asyncio.Future[None]


class GroupCommit:
    """Collects entries of many callers into writes, one at a time.

    ``write`` takes the entries and the time (of the loop) when the first of them was handed in. It returns the
    topics that failed although the rest is safe, and raises WriteFailedError when all failed.
    """

    def __init__(self, write: Callable[[list[Entry], float], Awaitable[Mapping[str, WriteFailedError]]]) -> None:
        """Do nothing yet: ``start`` does."""
        self._write = write
        self._waiting: deque[_Waiter] = deque()
        self._writing: list[_Waiter] = []
        self._idle = asyncio.Event()
        self._wake = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._loop = asyncio.get_running_loop()
        self._idle.set()
        self._pump = asyncio.create_task(self._run(), name="group commit")

    @property
    def events(self) -> int:
        """The events that wait or are being written."""
        return sum(len(waiter.entries) for waiter in (*self._writing, *self._waiting))

    async def close(self) -> None:
        """Finish the writes of all who wait, then stop."""
        if self._pump is None:
            return
        await self._idle.wait()
        await cancel_and_wait(self._pump)

    def commit(self, entries: list[Entry], size: int) -> asyncio.Future[None]:
        """Queue the entries of a callback of so many bytes.

        The future ends when all are safe; it raises WriteFailedError. Cancelling it gives up waiting.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(_Waiter(entries, size, self._loop.time(), done))
        self._idle.clear()
        self._wake.set()
        return done

    async def _run(self) -> None:
        while True:
            self._writing = []
            if not self._waiting:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            # One turn of the loop: those whose bodies have arrived with the first one's go with it.
            await asyncio.sleep(0)
            group = self._writing = self._take()
            if not group:
                continue
            try:
                failed = await self._write([entry for waiter in group for entry in waiter.entries], group[0].since)
            except WriteFailedError as error:
                # Those still in the queue learn it now: nobody waits for a time-out that others have seen.
                _fail([*group, *self._waiting], error)
                self._waiting.clear()
            except asyncio.CancelledError:
                _fail([*group, *self._waiting], WriteFailedError("stopped", "the service is stopping"))
                raise
            except Exception as error:  # noqa: BLE001 whatever it is, it must not end the writes of all who come later
                _fail(group, WriteFailedError(type(error).__name__, repr(error)))
            else:
                _finish(group, failed)

    def _take(self) -> list[_Waiter]:
        """Take the longest waiting. Who gave up was refused, and would pile up behind a slow disk."""
        group: list[_Waiter] = []
        events = size = 0
        while self._waiting:
            waiter = self._waiting[0]
            if not waiter.done.done():
                events += len(waiter.entries)
                size += waiter.size
                if group and (events > MAX_EVENTS or size > MAX_BYTES):
                    break
                group.append(waiter)
            self._waiting.popleft()
        return group


def _fail(waiters: list[_Waiter], error: WriteFailedError) -> None:
    for waiter in waiters:
        if not waiter.done.done():
            # An exception of its own: raised by many, one would collect the frames of all of them.
            waiter.done.set_exception(WriteFailedError(error.reason, str(error), error.topic))


def _finish(group: list[_Waiter], failed: Mapping[str, WriteFailedError]) -> None:
    for waiter in group:
        if waiter.done.done():
            continue
        error = (
            next((failed[entry.topic] for entry in waiter.entries if entry.topic in failed), None) if failed else None
        )
        if error is None:
            waiter.done.set_result(None)
        else:
            waiter.done.set_exception(error)

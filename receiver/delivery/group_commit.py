"""Group commit: one write serves all callbacks that wait.

While a write is in progress, callers queue up; the next write takes the whole queue. So all callbacks that arrived
during one write share the cost of the next (a round trip, an fsync), and none waits for a timer.
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

    Write = Callable[[list[Entry], float], Awaitable[Mapping[str, WriteFailedError]]]

#: Events in one write. More would hold up the next write for long.
MAX_EVENTS: Final = 4000
#: Bytes of callbacks in one write, unless a single callback is larger: what a slow network or disk can do in time.
MAX_BYTES: Final = 8 << 20
_NONE: Final[Mapping[str, WriteFailedError]] = {}


class Waiter(msgspec.Struct, frozen=True):
    """A caller that waits for its entries to be safe: their bytes, and since when, on the loop's clock."""

    entries: list[Entry]
    size: int
    since: float
    done: asyncio.Future[Mapping[str, WriteFailedError]]


class GroupCommit:
    """Collects the entries of many callers into writes, one at a time.

    ``write`` takes the entries and the loop's time at which the first of them was handed in. It returns the failed
    topics while the rest is safe, and raises WriteFailedError when all failed.
    """

    def __init__(self, write: Write, name: str = "redis") -> None:
        """Create no task yet: ``start`` does. ``name`` says where entries go, for people."""
        self._write = write
        self.name = name
        self._waiting: deque[Waiter] = deque()
        self._writing: list[Waiter] = []
        self._idle = asyncio.Event()
        self._wake = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start writing."""
        self._loop = asyncio.get_running_loop()
        self._idle.set()
        self._pump = asyncio.create_task(self._run(), name=f"group commit {self.name}")

    @property
    def events(self) -> int:
        """How many events wait or are being written."""
        return sum(len(waiter.entries) for waiter in (*self._writing, *self._waiting))

    async def close(self) -> None:
        """Write what waits, then stop."""
        if self._pump is None:
            return
        await self._idle.wait()
        await cancel_and_wait(self._pump)

    def commit(
        self, entries: list[Entry], size: int, since: float | None = None
    ) -> asyncio.Future[Mapping[str, WriteFailedError]]:
        """Queue the entries of a callback; ``size`` is its bytes, ``since`` when it came, by default now.

        The future completes with the failed topics; all other entries are safe. It fails with WriteFailedError when
        the whole write does. A caller that stops waiting cancels it.
        """
        done: asyncio.Future[Mapping[str, WriteFailedError]] = self._loop.create_future()
        self._waiting.append(Waiter(entries, size, self._loop.time() if since is None else since, done))
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
            # One iteration of the loop: callbacks whose bodies have arrived by now join this write.
            await asyncio.sleep(0)
            group = self._writing = self._take()
            if not group:
                continue
            try:
                failed = await self._write_group(group)
            except WriteFailedError as error:
                # Fail the queue as well: each of its callbacks would otherwise wait for the same timeout.
                _fail([*group, *self._waiting], error)
                self._waiting.clear()
            except asyncio.CancelledError:
                _fail([*group, *self._waiting], WriteFailedError("stopped", "the service is stopping"))
                raise
            except Exception as error:  # noqa: BLE001 no exception may end the task, and with it all later writes
                _fail(group, WriteFailedError(type(error).__name__, repr(error)))
            else:
                _finish(group, failed)

    async def _write_group(self, group: list[Waiter]) -> Mapping[str, WriteFailedError]:
        return await self._write([entry for waiter in group for entry in waiter.entries], group[0].since)

    def _take(self) -> list[Waiter]:
        """Take the oldest waiters. Skip those that timed out; they would otherwise pile up behind a slow disk."""
        group: list[Waiter] = []
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


def _fail(waiters: list[Waiter], error: WriteFailedError) -> None:
    for waiter in waiters:
        if not waiter.done.done():
            # A new exception for each waiter: a shared one would collect the frames of all of them.
            waiter.done.set_exception(WriteFailedError(error.reason, str(error), error.topic))


def _finish(group: list[Waiter], failed: Mapping[str, WriteFailedError]) -> None:
    for waiter in group:
        if not waiter.done.done():
            own = {entry.topic for entry in waiter.entries if entry.topic in failed} if failed else ()
            waiter.done.set_result({topic: failed[topic] for topic in own} if own else _NONE)

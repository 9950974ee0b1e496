"""Publishes past events again: a range of a stream, as new events that link to the old ones."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from receiver.errors import WriteFailedError
from receiver.events import give_back, replay
from receiver.redis_client import on
from receiver.streams.dead_letters import dead_letters_of, topic_of
from receiver.streams.group_info import as_text
from receiver.streams.paging import pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from receiver.events import Entry
    from receiver.redis_client import Client

    Write = Callable[[list[Entry]], Awaitable[Mapping[str, WriteFailedError]]]

#: Events in one write, at most, and the part of a second that a write of fewer events stands for.
_BATCH: Final = 200
_TICK: Final = 0.1
#: Seconds before each further attempt to write.
_WAITS: Final = (0.2, 1.0, 3.0)


class Range(NamedTuple):
    """A part of a stream, between the ids of entries, both inclusive; and the stream that its events go to.

    The range ends with an entry that is there when the replay begins, so it does not grow by what is replayed.
    """

    topic: str
    first: str
    last: str
    target: str

    @property
    def of_dead_letters(self) -> bool:
        """Whether its events are dead letters. They are given back: they keep their ids, and may be replays."""
        return self.topic.endswith(dead_letters_of(""))

    @property
    def moves(self) -> bool:
        """Whether its events leave their stream: dead letters that go back to their own topic."""
        return self.of_dead_letters and self.target == topic_of(self.topic)


class Pace:
    """Spreads events over time: ``rate`` of them a second, None for as fast as possible."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._started = 0.0
        self._events = 0

    @property
    def batch(self) -> int:
        """The number of events to publish at a time."""
        return _BATCH if self._rate is None else max(1, min(_BATCH, int(self._rate * _TICK)))

    async def wait(self, events: int) -> None:
        """Wait until so many more events are due."""
        if self._rate is not None:
            self._started = self._started or time.monotonic()
            self._events += events
            await asyncio.sleep(max(0.0, self._started + self._events / self._rate - time.monotonic()))


async def publish(client: Client, part: Range, name: str, pace: Pace, write: Write) -> AsyncIterator[int]:
    """Publish the events of a range again, and yield how many of them there are, page by page.

    Left out are replays, unless they are dead letters, and what is not an event. Dead letters that go back to their
    topic are removed, once it has them. ``write`` adds events to streams. Raises WriteFailedError if the target does
    not take them, and the errors of redis-py. After an error, do the whole range again.
    """
    async for page in pages(client, part.topic, pace.batch, part.first, part.last):
        entries = {id_: entry for id_, fields in page if (entry := _again(part, id_, fields, name)) is not None}
        if entries:
            await _insist(write, [*entries.values()])
            if part.moves:
                await on(client, part.topic).xdel(part.topic, *entries)
        await pace.wait(len(entries))
        yield len(entries)


def _again(part: Range, entry_id: bytes, fields: Mapping[bytes, bytes], name: str) -> Entry | None:
    """Return the entry that publishes an event again, or None for what is not to be published."""
    data = fields.get(b"data", b"")
    if not part.of_dead_letters:
        return replay(data, part.target, name)
    put_aside = as_text(fields.get(b"entry", entry_id))
    return give_back(data, part.target, put_aside if part.moves else f"{put_aside} {name}")


async def _insist(write: Write, entries: list[Entry]) -> None:
    """Write events, and again after an outage that may pass: Redis recognises the events that it has."""
    for wait in (*_WAITS, None):
        try:
            failed = await write(entries)
        except WriteFailedError:
            if wait is None:
                raise
        else:  # a cluster answers for each topic: its primary is away, or its slot moves
            lasting = next((error for error in failed.values() if wait is None or not error.passes), None)
            if lasting is not None:
                raise lasting
            if not failed:
                return
        await asyncio.sleep(wait or 0)

"""Searches streams backwards, newest entries first, in steps that neither Redis nor the service notices.

A script looks at the entries where they are: of ten million only the matching ones travel.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from receiver.redis_client import Script
from receiver.streams.entry_ids import id_parts
from receiver.streams.stored_event import StoredEvent, decode_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from receiver.redis_client import Client
    from receiver.search.wanted import Wanted

SCRIPT: Final = files("receiver.search").joinpath("search.lua").read_text()
#: Entries in one script call, which takes Redis about 1 ms.
STEP: Final = 250
#: Seconds of rest after a step, at most: a step took longer than that on its way to Redis, or waiting for its turn.
_MAX_REST: Final = 0.005


class Match(NamedTuple):
    """An entry that is about what is wanted."""

    topic: str
    entry_id: str
    data: bytes
    event: StoredEvent


@dataclass
class SearchBudget:
    """Bounds a search: entries, and time on the clock of ``time.monotonic``. Both are unlimited by default."""

    entries: int | None = None
    ends_at: float | None = None
    on_step: Callable[[int, int], None] = field(default=lambda _looked_at, _back_to_ms: None)
    looked_at: int = 0

    def stop(self) -> None:
        """End the search after the step under way."""
        self.entries = 0

    def part(self, part: float) -> float | None:
        """Return when a part of the time that is left will have passed; None without a bound."""
        now = time.monotonic()
        return None if self.ends_at is None else now + part * (self.ends_at - now)

    @property
    def used_up(self) -> bool:
        """Whether the search has to end here."""
        if self.entries is not None and self.looked_at >= self.entries:
            return True
        return self.ends_at is not None and time.monotonic() >= self.ends_at


class StreamSearch:
    """Searches the streams of topics. Raises the errors of redis-py."""

    def __init__(self, client: Client, wanted: Wanted, budget: SearchBudget) -> None:
        self._wanted = wanted
        self._budget = budget
        self._search = Script(client, SCRIPT)
        #: Milliseconds since the epoch, by Redis' clock: every topic of the last search was read back to here.
        self.back_to_ms = 0

    async def back(
        self, topics: Iterable[str], oldest_ms: int, newest_ms: int, quarantines: frozenset[str]
    ) -> AsyncIterator[Match]:
        """Yield the matches between two times of Redis' clock, both inclusive, newest first.

        All topics are read back at the same pace, so that ``back_to_ms`` holds for each of them. A search that begins
        takes a step in each, so that one behind it begins further back.
        """
        ends = {topic: (newest_ms, str(newest_ms)) for topic in topics}
        untouched = set() if self._budget.used_up else {*ends}
        self.back_to_ms = newest_ms
        while ends and (untouched or not self._budget.used_up):
            topic = max(ends, key=lambda each: ends[each][0])
            untouched.discard(topic)
            started = time.monotonic()
            looked_at, last, found = await self._step(topic, ends[topic][1], oldest_ms, topic in quarantines)
            spent = time.monotonic() - started
            if looked_at < STEP:
                del ends[topic]
            else:
                ends[topic] = id_parts(last)[0], f"({last}"
            self._budget.looked_at += looked_at
            self.back_to_ms = max((end for end, _ in ends.values()), default=oldest_ms)
            self._budget.on_step(self._budget.looked_at, self.back_to_ms)
            for match in found:
                yield match
            if ends:
                await asyncio.sleep(min(spent, _MAX_REST))  # leaves Redis half of the time, and the loop its turns

    async def entry(self, topic: str, entry_id: str) -> Match | None:
        """Return the entry with an id, whatever it is about."""
        _, _, found = await self._call(topic, entry_id, entry_id, (), b"")
        return found[0] if found else None

    async def _step(self, topic: str, newest: str, oldest_ms: int, quarantine: bool) -> tuple[int, str, list[Match]]:  # noqa: FBT001 a property of the topic
        wanted = self._wanted
        texts = wanted.texts_of_items and (*wanted.texts, *wanted.texts_of_items) if quarantine else wanted.texts
        looked_at, last, found = await self._call(topic, newest, str(oldest_ms), texts, wanted.tail)
        return looked_at, last, [match for match in found if wanted.matches(match.event)]

    async def _call(
        self, topic: str, newest: str, oldest: str, texts: tuple[bytes, ...], tail: bytes
    ) -> tuple[int, str, list[Match]]:
        answer: Any = await self._search([topic], [newest, oldest, STEP, tail, *texts])
        looked_at, last, *flat = answer
        pairs = zip(flat[::2], flat[1::2], strict=True)
        events = [(id_.decode(), data, decode_event(data)) for id_, data in pairs]
        return looked_at, last.decode(), [Match(topic, id_, data, event) for id_, data, event in events if event]


async def count(client: Client, topic: str, first: str, last: str, text: bytes) -> tuple[int, int]:
    """Return how many entries there are between two ids, and in how many of them the text is.

    Raises the errors of redis-py.
    """
    search = Script(client, SCRIPT)
    entries = matches = 0
    newest, looked_at = last, STEP
    while looked_at == STEP:
        started = time.monotonic()
        looked_at, end, *found = await search([topic], [newest, first, STEP, b"", text])
        entries, matches, newest = entries + looked_at, matches + len(found) // 2, f"({end.decode()}"
        await asyncio.sleep(min(time.monotonic() - started, _MAX_REST))
    return entries, matches

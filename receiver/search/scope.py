"""Where to search, and where to look first.

An entry id is a place. The publish script knows in which window it has added an event id, and the report index knows
when the report of a message came.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from redis.exceptions import AskError, MovedError, RedisError, ResponseError, TryAgainError

from receiver.redis_client import by_primary, on
from receiver.routing import project_of
from receiver.search.seen_ids import added_window
from receiver.search.wanted import EVENT_ID
from receiver.streams.dead_letters import dead_letters_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from receiver.lookups.reports import ReportAbout, Reports
    from receiver.redis_client import Client
    from receiver.routing import Routing

#: Seconds for a primary to answer before the search goes on without it.
_PRIMARY_TIMEOUT: Final = 1.0
_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000
#: Where an entry is looked for by the time of its report, in ms after that time, the likely places first: providers
#: call back within seconds, later after an outage, and some of their clocks are wrong. At 2,000 events a second the
#: first of them is 36,000 entries; five minutes would be more than a request over HTTP can read.
_AROUND: Final = (
    (-3_000, 15_000),
    (15_000, 5 * _MINUTE),
    (-_MINUTE, -3_000),
    (5 * _MINUTE, _HOUR),
    (-_HOUR, -_MINUTE),
    (_HOUR, _DAY),
    (-_DAY, -_HOUR),
)


class Span(NamedTuple):
    """A part of some streams, between two times of Redis' clock in milliseconds, both inclusive."""

    topics: Sequence[str]
    oldest_ms: int
    newest_ms: int


@dataclass(frozen=True)
class SearchScope:
    """Where to search: Redis with its streams and the report index, and the spool of this machine.

    ``sign_ids`` has the default signature of each project to search. ``dedupe_window`` is in seconds.
    """

    client: Client
    routing: Routing
    reports: Reports
    spool: Path
    dedupe_window: float
    sign_ids: Mapping[str, str]

    def topics(self) -> dict[str, str]:
        """Return the project of each stream that may hold events, dead letters or rejected items."""
        return {
            topic: project_id
            for project_id in self.sign_ids
            for event_topic in (*self.routing[project_id].topics(), self.routing[project_id].quarantine)
            for topic in (event_topic, dead_letters_of(event_topic))
        }

    def quarantines(self) -> frozenset[str]:
        """Return the quarantines among the topics."""
        return frozenset(self.routing[project_id].quarantine for project_id in self.sign_ids)

    def project_of(self, topic: str) -> str | None:
        """Return the project of a topic, if it is searched. A spool may hold topics that are not routed any more."""
        project_id = project_of(topic)
        return project_id if project_id in self.sign_ids else None

    async def survey(self, keys: Iterable[str]) -> tuple[set[str], dict[str, str]]:
        """Return the keys that exist, and those for which Redis does not answer, each with the reason."""
        existing: set[str] = set()
        away: dict[str, str] = {}
        for found in await asyncio.gather(*map(self._exist, by_primary(self.client, keys))):
            for key, exists in found.items():
                if isinstance(exists, str):
                    away[key] = exists
                elif exists:
                    existing.add(key)
        return existing, away

    async def spans_of_event(self, text: str, topics: Iterable[str]) -> list[Span]:
        """Return where an event id was added, as far as the publish script knows."""
        if not EVENT_ID.fullmatch(text):
            return []
        windows = [(topic, await added_window(self.client, topic, text, self.dedupe_window)) for topic in topics]
        return [Span([topic], *window) for topic, window in windows if window is not None]

    async def _exist(self, keys: list[str]) -> dict[str, bool | str]:
        """Return for each key of one primary whether it exists, or why Redis does not answer for it."""
        try:
            async with asyncio.timeout(_PRIMARY_TIMEOUT):
                async with on(self.client, keys[0]).pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.exists(key)
                    replies = await pipe.execute(raise_on_error=False)
                return {key: await self._existence(key, reply) for key, reply in zip(keys, replies, strict=True)}
        except (RedisError, OSError) as error:
            return dict.fromkeys(keys, str(error) or f"no answer within {_PRIMARY_TIMEOUT:g} s")

    async def _existence(self, key: str, reply: int | Exception) -> bool | str:
        """Judge a reply. A key whose slot has moved is asked for again: only single commands follow it."""
        if isinstance(reply, MovedError):
            try:
                reply = await on(self.client, key).exists(key)
            except ResponseError as error:
                reply = error
        if isinstance(reply, (MovedError, AskError, TryAgainError)):
            return "its slot is being moved to another primary; search again"
        return str(reply) if isinstance(reply, Exception) else bool(reply)

    def spans_around(self, report: ReportAbout, topics: Sequence[str]) -> Iterator[Span]:
        """Yield the spans in which the entry of a report may be, the likely ones first."""
        if report.came is not None:
            for after, before in _AROUND:
                yield Span(topics, max(0, report.came + after), report.came + before)

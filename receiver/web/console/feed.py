"""Reads the streams of one project, and makes the messages that its viewers get."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import RedisClusterException, RedisError

from receiver.events import EventType
from receiver.phone_numbers import masked, without_numbers
from receiver.web.console.quarantined import Quarantined
from receiver.web.console.tails import Tail
from receiver.web.console.window import BIN, WINDOW, Window, delay_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from receiver.redis_client import Client
    from receiver.routing import ProjectRoutes
    from receiver.web.console.service_state import ServiceState
    from receiver.web.console.tails import NewEntries, SeenEvent

#: Entries that are read in a round, of all streams together. Beyond them the newest stand for all, by number.
_MAX_READ: Final = 2000
#: The same of streams that are read for the first time, for figures of the past.
_MAX_READ_FIRST: Final = 20_000
#: The fewest that are read of one stream.
_MIN_READ: Final = 20
#: Events in the first message of a viewer, and in each further one.
_MAX_LISTED, _MAX_NEW = 50, 20
#: Complete bins in a further message: more than pass in a round, so that a viewer can miss some.
_BINS_AGAIN: Final = 3
#: Seconds for Redis to answer all reads of a round.
_REDIS_TIMEOUT: Final = 5.0
#: Characters of a provider's word for a state, or of its id.
_MAX_WORD: Final = 128


class Feed:
    """The figures and the latest events of a project, complete from the first round on."""

    def __init__(self, project_id: str, redis: Client, routes: ProjectRoutes, state: ServiceState) -> None:
        """``decode_responses`` of the client must be off."""
        self._project_id = project_id
        self._redis = redis
        self._routes = routes
        self._state = state
        self._tails: dict[str, Tail] = {}
        self._window = Window(time.time() - WINDOW)
        self._quarantined = Quarantined(redis, routes.quarantine)
        self._latest: deque[dict[str, Any]] = deque(maxlen=_MAX_LISTED)
        self._new = 0
        self._reachable = False

    async def round(self) -> None:
        """Read what is new. While Redis does not answer, the figures stay as they are."""
        now = time.time()
        self._new = 0
        try:
            async with asyncio.timeout(_REDIS_TIMEOUT):
                await self._read_streams(now)
                await self._quarantined.refresh(now)
            self._reachable = True
        except (RedisError, RedisClusterException, OSError):  # TimeoutError is one; delivery logs that Redis is away
            self._reachable = False
        self._window.forget(now)

    def message(self, *, whole: bool) -> bytes:
        """Return the state as a server-sent event, with the whole window or with what the last round has added."""
        now = time.time()
        first = 0 if whole else (int(now) // BIN - _BINS_AGAIN) * BIN
        listed = _MAX_LISTED if whole else min(self._new, _MAX_NEW)
        content = {
            "project": self._project_id,
            "now": now,
            "window": WINDOW,
            "covered": min(WINDOW, now - self._window.since),
            "reachable": self._reachable,
            "bins": self._window.columns(first, now),
            "events": list(self._latest)[:listed],
            "new": self._new,
            "providers": self._window.providers(),
            "routes": self._state.routes(self._routes),
            "groups": self._state.groups(self._routes.topics()),
            "quarantine": self._quarantined.figures,
            "service": self._state.service(),
        }
        return b"data: " + msgspec.json.encode(content) + b"\n\n"

    async def _read_streams(self, now: float) -> None:
        streams = dict.fromkeys((*self._routes.routed_streams(), self._routes.quarantine))
        self._tails = {stream: self._tails.get(stream) or Tail(self._redis, stream) for stream in streams}
        limit, first_limit = (max(_MIN_READ, most // len(streams)) for most in (_MAX_READ, _MAX_READ_FIRST))
        since_ms = int((now - WINDOW) * 1000)
        found: list[NewEntries] = []
        try:
            for tail in self._tails.values():
                found.append(await tail.new(limit, first_limit, since_ms))  # noqa: PERF401 what was read counts, even if the next one fails
        finally:
            self._count(found, now)
            self._list([event for entries in found for event in entries.events])
            self._new = sum(entries.added for entries in found)

    def _count(self, found: Iterable[NewEntries], now: float) -> None:
        """Count events now, or those of a first read at the times of their entries.

        The busiest stream reaches back least. Earlier events of the others do not count, or a rare type would look
        frequent.
        """
        reaches = [one.events[0][0] / 1000 for one in found if one.first and one.truncated and one.events]
        self._window.since = max(self._window.since, *reaches) if reaches else self._window.since
        for entries in found:
            number = entries.added / len(entries.events) if entries.events else 0.0
            for milliseconds, event in entries.events:
                at = min(now, milliseconds / 1000) if entries.first else now
                if at >= self._window.since:
                    self._window.add(at, event, number)

    def _list(self, events: list[tuple[int, SeenEvent]]) -> None:
        newest = sorted(events, key=lambda one: one[0])[-_MAX_LISTED:]
        self._latest.extendleft(_shown(event) for _, event in newest)


def _shown(event: SeenEvent) -> dict[str, Any]:
    """Return what viewers may know of an event: no text of a person, and no whole number."""
    data = event.data
    number = masked(data.mobile) if data.mobile else None
    rejected = event.type is EventType.REJECTED
    word = (data.reasons or [""])[0] if rejected else data.status_desc
    return {
        "id": event.id,
        "type": event.type,
        "provider": event.provider,
        "time": event.receivedtime,
        "nation_code": data.nation_code if number else None,
        "number": number,
        "message_id": data.message_id and data.message_id[:_MAX_WORD],
        "word": word and without_numbers(word[:_MAX_WORD]),
        "delay": delay_of(event),
    }

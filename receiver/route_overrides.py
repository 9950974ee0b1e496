"""Routes set at run time (UpdateSmsEvent): kept in Redis, seen by every replica within a second.

``{lookups:<project_id>}:routes`` is a hash, event type to topic URN. Where it is silent, the configuration's routes
hold. ``{lookups:<project_id>}:topics`` is a set: every topic that a change has led to or away from, because events
that nobody has read yet may still be there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from receiver.events import ROUTED, EventType
from receiver.lookups.scripts import project_key
from receiver.routing import topic_problem
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from receiver.log import Logger
    from receiver.routing import Routing

#: Topics that changes of a project may have led to or away from, in all. Each is looked at for as long as the service
#: runs, by retention and by the index, because nobody knows who still reads it.
MAX_TOPICS: Final = 1000
#: Seconds between two looks.
_EVERY: Final = 0.4
#: Seconds that Redis may take for one; a look that it does not answer is left out.
_REDIS_TIMEOUT: Final = 2.0


class TooManyTopicsError(Exception):
    """The project has been routed to as many topics as it may be. Nothing has changed."""


Overrides = dict[EventType, str]


class RouteOverrides:
    """Holds the routes of all projects in force as Redis has them. While Redis is away the last known ones stay."""

    def __init__(self, redis: Redis, routing: Routing, log: Logger) -> None:
        """Keep the collaborators; ``decode_responses`` of the client must be off."""
        self._redis = redis
        self._routing = routing
        self._log = log
        self._turn = asyncio.Lock()  # a look that began before a change must not put the old routes back
        self._watching: asyncio.Task[None] | None = None
        self._known = True

    async def open(self) -> None:
        """Put the stored routes in force, then keep watching. A Redis that is away is no reason not to start."""
        await self._look()
        self._watching = asyncio.create_task(self._watch(), name="watch routes")

    async def close(self) -> None:
        """Stop watching."""
        await cancel_and_wait(self._watching)

    async def change(self, project_id: str, routes: Mapping[EventType, str | None], by: str) -> None:
        """Set routes of a project, or with None take them back to the configured ones; log who did it.

        What is not named stays as it is. Raises TooManyTopicsError; and RedisError or OSError, then it is not known
        whether it was done.
        """
        async with self._turn:
            self._check_room(project_id, routes)
            before = self._routing[project_id].table
            left = [before[kind] for kind in routes]
            async with self._redis.pipeline(transaction=True) as pipe:
                for kind, urn in routes.items():
                    if urn is None:
                        pipe.hdel(_key(project_id), kind)
                    else:
                        pipe.hset(_key(project_id), kind, urn)
                pipe.sadd(_topics_key(project_id), *left, *filter(None, routes.values()))
                _ask(pipe, project_id)
                replies = await pipe.execute()
            self._apply(project_id, *replies[-2:])
        table = self._routing[project_id].table
        for kind, urn in routes.items():
            self._log.warning(
                "routes.changed",
                project=project_id,
                event_type=kind,
                before=before[kind],
                topic=table[kind],
                reset=urn is None,
                by=by,
            )

    def _check_room(self, project_id: str, routes: Mapping[EventType, str | None]) -> None:
        """Refuse topics past the bound; back to a known one there is always a way. Replicas may pass it by a few."""
        known = set(self._routing[project_id].topics())
        new = {urn for urn in routes.values() if urn is not None} - known
        if new and len(known | new) > MAX_TOPICS:
            raise TooManyTopicsError

    async def refresh(self) -> None:
        """Put in force what Redis has now. Raises RedisError or OSError."""
        async with self._turn, asyncio.timeout(_REDIS_TIMEOUT):
            async with self._redis.pipeline(transaction=False) as pipe:
                for project_id in self._routing.projects:
                    _ask(pipe, project_id)
                replies = iter(await pipe.execute())
            for project_id in self._routing.projects:
                self._apply(project_id, next(replies), next(replies))

    def _apply(self, project_id: str, stored: Mapping[bytes, bytes], topics: Iterable[bytes]) -> None:
        routes = self._routing[project_id]
        routes.former = frozenset(urn.decode(errors="replace") for urn in topics)
        overrides = _valid(project_id, stored)
        if overrides != routes.overrides:
            routes.override(overrides)
            # Not as a mapping: what stands under a name with "reply" in it is masked, as what a person wrote.
            shown = [f"{kind} to {urn}" for kind, urn in overrides.items()]
            self._log.info("routes.applied", project=project_id, routes=shown)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await self._look()

    async def _look(self) -> None:
        try:
            await self.refresh()
        except (RedisError, OSError) as error:
            if self._known:
                self._log.warning("routes.unknown", error=error)
            self._known = False
        else:
            self._known = True


def _key(project_id: str) -> str:
    return f"{project_key(project_id)}:routes"


def _topics_key(project_id: str) -> str:
    return f"{project_key(project_id)}:topics"


def _ask(pipe: Pipeline, project_id: str) -> None:
    pipe.hgetall(_key(project_id))
    pipe.smembers(_topics_key(project_id))


def _valid(project_id: str, stored: Mapping[bytes, bytes]) -> Overrides:
    """Leave out what is no route: a hand at redis-cli, or a newer version, may have written it."""
    texts = {kind.decode(errors="replace"): urn.decode(errors="replace") for kind, urn in stored.items()}
    known = {str(kind): kind for kind in ROUTED}
    return {known[kind]: urn for kind, urn in texts.items() if kind in known and topic_problem(urn, project_id) is None}

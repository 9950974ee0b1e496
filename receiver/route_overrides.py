"""Routes set at run time (UpdateSmsEvent): stored in Redis, applied by every replica within a second.

``{lookups:<project_id>}:routes`` is a hash from event type to topic URN. Event types without an entry use the
configured routes. ``{lookups:<project_id>}:topics`` is the set of all topics in current and former routes, which may
still hold unread events.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from redis.exceptions import MovedError, RedisError

from receiver.events import ROUTED, EventType
from receiver.lookups.scripts import project_key
from receiver.redis_client import by_primary, on
from receiver.routing import Routing, topic_problem
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from redis.asyncio.client import Pipeline

    from receiver.log import Logger
    from receiver.redis_client import Client
    from receiver.routing import RoutedProject

#: Topics of a project, current and former. Retention and the index process each of them for good, because a former
#: topic may still have readers.
MAX_TOPICS: Final = 1000
#: Seconds between two refreshes.
_INTERVAL: Final = 0.4
#: Seconds for Redis to answer a refresh.
_REDIS_TIMEOUT: Final = 2.0


class TooManyTopicsError(Exception):
    """The project already has MAX_TOPICS topics. Nothing has changed."""


Overrides = dict[EventType, str]


class RouteOverrides:
    """Applies the routes in Redis to the routing table. While Redis is away, the last ones stay in effect."""

    def __init__(self, redis: Client, routing: Routing, log: Logger) -> None:
        """``redis`` must have ``decode_responses`` off."""
        self._redis = redis
        self._routing = routing
        self._log = log
        self._lock = asyncio.Lock()  # a refresh that began before a change must not restore the old routes
        self._watching: asyncio.Task[None] | None = None
        self._reachable = True

    async def open(self) -> None:
        """Apply the stored routes, and start watching. The service starts even if Redis is away."""
        await self._try_refresh()
        self._watching = asyncio.create_task(self._watch(), name="watch routes")

    async def close(self) -> None:
        """Stop watching."""
        await cancel_and_wait(self._watching)

    async def change(self, project_id: str, routes: Mapping[EventType, str | None], by: str) -> None:
        """Set routes of a project; None restores the configured route. ``by`` is the caller's name for the log.

        Other event types keep their routes. Raises TooManyTopicsError. Raises RedisError or OSError with an unknown
        outcome.
        """
        async with self._lock:
            self._check_count(project_id, routes)
            known = self._routing[project_id]
            before = known.table
            # With their partitions, which may still hold unread events. Later changes of the partitions do not matter.
            replaced = [stream for event_type in routes for stream in known.streams(event_type)]
            try:
                stored, topics = await self._store(project_id, routes, replaced)
            except MovedError:  # the project's slot has another primary now, and nothing was stored
                stored, topics = await self._store(project_id, routes, replaced)
            self._apply(project_id, stored, topics)
        table = self._routing.projects.get(project_id, known).table
        for event_type, urn in routes.items():
            self._log.warning(
                "routes.changed",
                project=project_id,
                event_type=event_type,
                before=before[event_type],
                topic=table[event_type],
                reset=urn is None,
                by=by,
            )

    async def _store(
        self, project_id: str, routes: Mapping[EventType, str | None], replaced: Iterable[str]
    ) -> tuple[Mapping[bytes, bytes], Iterable[bytes]]:
        """Store routes, all or none: the keys of a project are in one slot. Return what is stored now."""
        async with on(self._redis, _key(project_id)).pipeline(transaction=True) as pipe:
            for event_type, urn in routes.items():
                if urn is None:
                    pipe.hdel(_key(project_id), event_type)
                else:
                    pipe.hset(_key(project_id), event_type, urn)
            pipe.sadd(_topics_key(project_id), *replaced, *filter(None, routes.values()))
            _queue_reads(pipe, project_id)
            *_, stored, topics = await pipe.execute()
        return stored, topics

    async def keep(self, project_id: str, urn: str) -> None:
        """Add a topic to those that may hold unread events: every replica trims it, and the index reads it.

        Raises TooManyTopicsError, RedisError or OSError.
        """
        self._check_count(project_id, {EventType.SUCCESS: urn})
        await on(self._redis, _topics_key(project_id)).sadd(_topics_key(project_id), urn)

    def _check_count(self, project_id: str, routes: Mapping[EventType, str | None]) -> None:
        """Refuse new topics beyond MAX_TOPICS. Concurrent changes on other replicas may exceed it by a few."""
        current = set(self._routing[project_id].topics())
        new = {urn for urn in routes.values() if urn is not None} - current
        if new and len(current | new) > MAX_TOPICS:
            raise TooManyTopicsError

    async def refresh(self) -> None:
        """Apply the routes that Redis has now. Raises RedisError or OSError.

        While one of several primaries is away, the routes of its projects stay, and those of the others are applied.
        """
        projects = {_key(project_id): project_id for project_id in self._routing.projects}
        async with self._lock:
            refreshing = [self._refresh([projects[key] for key in keys]) for keys in by_primary(self._redis, projects)]
            for failure in await asyncio.gather(*refreshing, return_exceptions=True):
                if failure is not None:
                    raise failure

    async def _refresh(self, project_ids: list[str]) -> None:
        """Apply the routes of projects whose keys one primary holds."""
        async with (
            asyncio.timeout(_REDIS_TIMEOUT),
            on(self._redis, _key(project_ids[0])).pipeline(transaction=False) as pipe,
        ):
            for project_id in project_ids:
                _queue_reads(pipe, project_id)
            replies = iter(await pipe.execute())
        for project_id in project_ids:
            self._apply(project_id, next(replies), next(replies))

    def _apply(self, project_id: str, stored: Mapping[bytes, bytes], topics: Iterable[bytes]) -> None:
        routes = self._routing.projects.get(project_id)
        if routes is None:  # a reload has removed the project meanwhile
            return
        routes.former = frozenset(urn.decode(errors="replace") for urn in topics)
        overrides = _valid(project_id, stored)
        if overrides != routes.overrides:
            routes.override(overrides)
            # A list, not a mapping: the log masks values under names that contain "reply".
            described = [f"{event_type} to {urn}" for event_type, urn in overrides.items()]
            self._log.info("routes.applied", project=project_id, routes=described)

    async def routing_of(self, projects: Iterable[RoutedProject]) -> Routing:
        """Return the routes of other projects, as a reload brings them, with those set at run time.

        While Redis is away, a project that is there already keeps the overrides it has.
        """
        routing = Routing(projects)
        for project_id, routes in routing.projects.items():
            if (known := self._routing.projects.get(project_id)) is not None:
                routes.override(known.overrides)
                routes.former = known.former
        await RouteOverrides(self._redis, routing, self._log)._try_refresh()  # noqa: SLF001 of the same class
        return routing

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            await self._try_refresh()

    async def _try_refresh(self) -> None:
        try:
            await self.refresh()
        except (RedisError, OSError) as error:
            if self._reachable:
                self._log.warning("routes.unknown", error=error)
            self._reachable = False
        else:
            self._reachable = True


def _key(project_id: str) -> str:
    return f"{project_key(project_id)}:routes"


def _topics_key(project_id: str) -> str:
    return f"{project_key(project_id)}:topics"


def _queue_reads(pipe: Pipeline, project_id: str) -> None:
    pipe.hgetall(_key(project_id))
    pipe.smembers(_topics_key(project_id))


def _valid(project_id: str, stored: Mapping[bytes, bytes]) -> Overrides:
    """Return the valid routes. redis-cli or a newer version may have stored others."""
    texts = {name.decode(errors="replace"): urn.decode(errors="replace") for name, urn in stored.items()}
    types = {str(event_type): event_type for event_type in ROUTED}
    return {types[name]: urn for name, urn in texts.items() if name in types and topic_problem(urn, project_id) is None}

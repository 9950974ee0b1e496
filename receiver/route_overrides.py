"""Routes set at run time (UpdateSmsEvent): stored in Redis, applied by every replica within a second.

``{lookups:<project_id>}:routes`` is a hash from event type to topic URN. Event types without an entry use the
configured routes. ``{lookups:<project_id>}:topics`` is the set of all topics in current and former routes, which may
still hold unread events.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redis.exceptions import MovedError, RedisError

from receiver.events import ROUTED, EventType
from receiver.lookups.scripts import project_key
from receiver.redis_client import Script, by_primary, on
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
_SCRIPT: Final = Path(__file__).with_suffix(".lua").read_text("utf-8")
#: Seconds between two refreshes.
_INTERVAL: Final = 0.4
#: Seconds for Redis to answer a refresh.
_REDIS_TIMEOUT: Final = 2.0


class TooManyTopicsError(Exception):
    """The project already has MAX_TOPICS topics. Nothing has changed."""


Overrides = dict[EventType, str]


class RouteOverrides:
    """Applies the routes in Redis to the routing table. While Redis is away, the last ones stay in effect."""

    def __init__(self, redis: Client, routing: Routing, log: Logger, replicas: int = 0) -> None:
        """``redis`` must have ``decode_responses`` off. ``replicas``: how many must have a change."""
        self._redis = redis
        self._script = Script(redis, _SCRIPT, replicas)
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
        """Store routes, all or none. Return what is stored now."""
        changes = [text for event_type, urn in routes.items() for text in (event_type, urn or "")]
        topics = [*replaced, *filter(None, routes.values())]
        keys = [_key(project_id), _topics_key(project_id)]
        flat, kept = await self._script(keys, [len(routes), *changes, *topics])
        return dict(zip(flat[::2], flat[1::2], strict=True)), kept

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
            replies = await pipe.execute(raise_on_error=False)
        for project_id, stored, topics in zip(project_ids, replies[::2], replies[1::2], strict=True):
            if not isinstance(stored, Exception) and not isinstance(topics, Exception):
                self._apply(project_id, stored, topics)
        # A slot that has moved is asked for at its new primary by the next refresh, a moment later.
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, MovedError):
                raise reply

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

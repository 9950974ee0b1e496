"""Serves the feed of a project to its viewers, as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html. Each second is a message, which is also the heartbeat.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from receiver.errors import OverloadedError
from receiver.log import OnceAMinute
from receiver.tasks import cancel_and_wait
from receiver.web.acks import harden
from receiver.web.console.feed import Feed

if TYPE_CHECKING:
    from receiver.log import Logger
    from receiver.redis_client import Client
    from receiver.routing import Routing
    from receiver.web.console.service_state import ServiceState
    from receiver.web.smn.auth import Credentials

#: Viewers of a process. Each holds a connection, and at most MAX_WAITING messages.
MAX_VIEWERS: Final = 50
#: Messages that wait for a slow viewer before it is dropped.
MAX_WAITING: Final = 5
#: Seconds after which a viewer has to authenticate again: then a revoked token shows nothing.
LIFETIME: Final = 900.0
#: Seconds between two rounds.
_ROUND: Final = 1.0


class Viewer:
    """One connection of a browser."""

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self.new = True
        self._transport = transport
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_WAITING)

    def send(self, message: bytes) -> bool:
        """Queue a message. Return False for a viewer that is too slow, which is disconnected."""
        try:
            self._messages.put_nowait(message)
        except asyncio.QueueFull:
            self.end()
            return False
        self.new = False
        return True

    async def next(self) -> bytes | None:
        """Return the next message, or None at the end."""
        return await self._messages.get()

    def end(self) -> None:
        """End the stream after what is queued; at once for a viewer that does not read."""
        unread = self._transport is not None and self._transport.get_write_buffer_size() > 0
        if self._transport is not None and (unread or self._messages.full()):
            self._transport.abort()
        if not self._messages.full():
            self._messages.put_nowait(None)


class _Watched:
    """A project with viewers: its feed runs as long as there are any."""

    def __init__(self, feed: Feed, logger: Logger) -> None:
        self.viewers: set[Viewer] = set()
        self._feed = feed
        self._logger = logger
        self._failure = OnceAMinute()
        self.task = asyncio.create_task(self._run(), name="console feed")

    async def _run(self) -> None:
        while True:
            try:
                await self._feed.round()
                self._send()
            except Exception:  # any: without this task the viewers would wait forever
                if self._failure.due():
                    self._logger.exception("console.failed")
            await asyncio.sleep(_ROUND)

    def _send(self) -> None:
        """Send a message to all; it is encoded once for the new viewers, and once for the others."""
        messages: dict[bool, bytes] = {}
        for viewer in list(self.viewers):
            whole = viewer.new
            if whole not in messages:
                messages[whole] = self._feed.message(whole=whole)
            if not viewer.send(messages[whole]):
                self.viewers.discard(viewer)
                self._logger.info("console.viewer_dropped", waiting_count=MAX_WAITING)


class Viewers:
    """The viewers of all projects."""

    def __init__(
        self, credentials: Credentials, redis: Client, routing: Routing, state: ServiceState, logger: Logger
    ) -> None:
        """``decode_responses`` of the client must be off."""
        self._credentials = credentials
        self._redis = redis
        self._routing = routing
        self._state = state
        self._logger = logger
        self._watched: dict[str, _Watched] = {}
        self._open = 0
        self._closed = False

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Answer ``GET /v2/{project_id}/console/events`` with a message a second.

        Raises what ``Credentials.check`` raises, and OverloadedError if there are too many viewers.
        """
        project, _ = await self._credentials.check(request)
        if self._open >= MAX_VIEWERS or self._closed:
            raise OverloadedError(f"{self._open} viewers are connected to this process; close one, or try again later")
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: "text/event-stream",
                hdrs.CACHE_CONTROL: "no-store",
                "X-Accel-Buffering": "no",  # nginx would hold messages back
            }
        )
        harden(response)
        viewer = Viewer(request.transport)
        watched = self._watch(project.id)
        watched.viewers.add(viewer)
        self._open += 1
        try:
            async with asyncio.timeout(LIFETIME):
                await response.prepare(request)
                while (message := await viewer.next()) is not None:
                    await response.write(message)
        except (TimeoutError, ConnectionError):  # its time is over, or it has gone
            pass
        finally:
            self._open -= 1
            watched.viewers.discard(viewer)
            await self._leave(project.id, watched)
        return response

    def reload(self) -> None:
        """End all streams: their browsers come back, and authenticate against the projects as they are now."""
        watched_before, self._watched = self._watched, {}
        for watched in watched_before.values():
            for viewer in watched.viewers:
                viewer.end()

    async def close(self, _app: web.Application) -> None:
        """End all streams at once: an ``on_shutdown`` signal, which comes before the server waits for its handlers."""
        self._closed = True
        tasks = [watched.task for watched in self._watched.values()]
        self.reload()
        await cancel_and_wait(*tasks)

    def _watch(self, project_id: str) -> _Watched:
        if project_id not in self._watched:
            feed = Feed(project_id, self._redis, self._routing[project_id], self._state)
            self._watched[project_id] = _Watched(feed, self._logger)
        return self._watched[project_id]

    async def _leave(self, project_id: str, watched: _Watched) -> None:
        if not watched.viewers:
            if self._watched.get(project_id) is watched:
                del self._watched[project_id]
            await cancel_and_wait(watched.task)

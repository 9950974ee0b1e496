"""The whole way of a callback, top to bottom: who is it, what does it hold, where does it go, is it safe, the ack."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from receiver import metrics
from receiver.errors import InvalidCallbackError, NotFoundError, TooLargeError
from receiver.events import Entry, Sealer
from receiver.providers.items import TooManyItemsError
from receiver.web.answers import Acks
from receiver.web.bodies import Bodies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from receiver.delivery import Delivery
    from receiver.delivery.room import Place
    from receiver.projects import Project
    from receiver.providers.base import Provider, Reading
    from receiver.routing import Routing
    from receiver.settings import Settings
    from receiver.web.gate import Gate

#: A body beyond this, that of 500 reports or more, waits for its turn and is read in a thread: 500 take 1 ms.
_LARGE: Final = 128 << 10
#: A smaller one that is not as expected is read in a thread as well, from this on: items of 10 bytes take 70 µs each.
_SLOWLY_IN_THREAD: Final = 2 << 10
#: Problems that an error message lists; the quarantine has them all.
_MOST_PROBLEMS: Final = 10


class Callbacks:
    """Receives callbacks of one provider."""

    def __init__(
        self, provider: Provider, settings: Settings, gate: Gate, routing: Routing, delivery: Delivery
    ) -> None:
        """Hand the collaborators over."""
        self.provider = provider
        self._most_items = settings.max_items
        self._bodies = Bodies(settings.max_body, settings.read_timeout, "RECEIVER_MAX_BODY")
        self._gate = gate
        self._routing = routing
        self._delivery = delivery
        self._sealers = {project.id: Sealer(provider.name, project.id) for project in settings.projects.values()}
        self._acks = Acks(provider.answer(0, "OK"))
        self._tally = metrics.Tally(provider.name)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Find out whose callback it is, then take it. Answers the ack, or raises a ReceiverError."""
        project = self._gate.admit(request, self.provider.name, request.match_info.get("project_id"))
        return await self.take(request, project)

    async def take(self, request: web.BaseRequest, project: Project) -> web.StreamResponse:
        """Read a callback of a project, make what it holds safe, and only then answer the ack."""
        began = time.perf_counter()
        with self._delivery.room.place() as place:
            body = await self._bodies.read(request, place)
            if len(body) <= _LARGE:
                reading = await self._keep(body, project, place)
            else:
                async with self._delivery.room.turn():
                    reading = await self._keep(body, project, place)
        self._tally.kept(reading.way, reading.events, len(reading.rejections))
        if reading.rejections and not reading.events:
            raise InvalidCallbackError(_summary(reading))
        self._tally.acknowledged(time.perf_counter() - began)
        return self._acks.ack(request)

    async def _keep(self, body: bytes, project: Project, place: Place) -> Reading:
        """Return what a body holds when all of it is safe."""
        try:
            reading, entries = await self._read(body, project)
        except TooManyItemsError as error:
            raise TooLargeError(str(error)) from None
        place.take_events(len(entries))
        if entries:
            await self._delivery.keep(entries, len(body))
        return reading

    async def _read(self, body: bytes, project: Project) -> tuple[Reading, list[Entry]]:
        """Read a body here if that takes no longer than a ms or two, else in a thread. Raises TooManyItemsError."""
        if len(body) <= _LARGE:
            reading = self.provider.read_fast(body, project.sign_id, self._most_items)
            if reading is None and len(body) <= _SLOWLY_IN_THREAD:
                reading = self.provider.read_slowly(body, project.sign_id, self._most_items)
            if reading is not None:
                return reading, self._seal(reading, project)
        return await asyncio.to_thread(self._read_long, body, project)

    def _read_long(self, body: bytes, project: Project) -> tuple[Reading, list[Entry]]:
        reading = self.provider.read(body, project.sign_id, self._most_items)
        return reading, self._seal(reading, project)

    def _seal(self, reading: Reading, project: Project) -> list[Entry]:
        """Return the entries of all that was read: each event with its id, its envelope and its topic."""
        seal = self._sealers[project.id].seal
        topics = self._routing[project.id].table
        received_ms = time.time_ns() // 1_000_000
        entries = [seal(event, topics[event.type], received_ms) for event in reading.events]
        if reading.rejections:
            entries += [seal(r.event, topics[r.event.type], received_ms) for r in reading.rejections]
        return entries


class AnyProvider:
    """``POST /callbacks/{provider}/{project_id}``: the same, with the provider's name in the path."""

    def __init__(self, callbacks: Mapping[str, Callbacks]) -> None:
        """Take the callbacks of every provider."""
        self._callbacks = callbacks

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Hand the callback to its provider."""
        name = request.match_info["provider"]
        if name not in self._callbacks:
            raise NotFoundError(f"no such provider; there is {', '.join(self._callbacks)}")
        return await self._callbacks[name].receive(request)


def _summary(reading: Reading) -> str:
    problems = [problem for rejection in reading.rejections for problem in rejection.problems]
    more = len(problems) - _MOST_PROBLEMS
    return "; ".join(problems[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")

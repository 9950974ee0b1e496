"""The whole way of a callback, top to bottom: who is it, what does it hold, where does it go, is it safe, the ack."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from receiver import metrics
from receiver.errors import InvalidCallbackError, NotFoundError, TooLargeError, summary
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
#: Seconds that reading item by item takes: an object with seven wrong fields, any other value, and a byte, of brackets.
_OBJECT: Final = 75e-6
_VALUE: Final = 8e-6
_BYTE: Final = 0.25e-6
#: A body that is not as expected and takes longer than this waits for a slot, and is read in a thread.
_BRIEF: Final = 1e-3


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
            # The quarantine has all the problems.
            raise InvalidCallbackError(summary(problem for one in reading.rejections for problem in one.problems))
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
        """Read a body here if that takes no longer than a ms or two, else in a thread. Raises TooManyItemsError.

        Reading item by item may take most of a second, so one body is read so at a time, and those that would have to
        wait for longer than a provider does are refused (OverloadedError).
        """
        large = len(body) > _LARGE
        read = await asyncio.to_thread(self._fast, body, project) if large else self._fast(body, project)
        if read is not None:
            return read
        work = self._tolerant_time(body)
        if work <= _BRIEF:
            return self._tolerant(body, project)
        async with self._delivery.room.tolerant_slot(work):
            return await asyncio.to_thread(self._tolerant, body, project)

    def _fast(self, body: bytes, project: Project) -> tuple[Reading, list[Entry]] | None:
        reading = self.provider.read_fast(body, project.sign_id, self._most_items)
        return None if reading is None else (reading, self._seal(reading, project))

    def _tolerant(self, body: bytes, project: Project) -> tuple[Reading, list[Entry]]:
        reading = self.provider.read_slowly(body, project.sign_id, self._most_items)
        return reading, self._seal(reading, project)

    def _tolerant_time(self, body: bytes) -> float:
        """Return the seconds that reading a body item by item takes at most. Beyond ``max_items`` it is refused."""
        objects, values = (min(body.count(mark), self._most_items) for mark in (b"{", b","))
        return objects * _OBJECT + values * _VALUE + len(body) * _BYTE

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

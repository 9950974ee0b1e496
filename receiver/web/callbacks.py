"""The whole way of a callback, top to bottom: who is it, what does it hold, where does it go, is it safe, the ack."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from receiver import metrics
from receiver.errors import InvalidCallbackError, NotFoundError, ReadTimeoutError, TooLargeError
from receiver.events import Entry, Sealer
from receiver.providers.items import TooManyItemsError
from receiver.web.answers import Acks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.delivery import Delivery
    from receiver.projects import Project
    from receiver.providers.base import Provider, Reading
    from receiver.routing import Routing
    from receiver.settings import Settings
    from receiver.web.gate import Gate

#: A body beyond this is read in a thread, that of 500 reports: they take 0.6 ms.
_IN_THREAD: Final = 128 << 10
#: So is a smaller one that is not as expected, from this on: its items may be 10 bytes each, and take 70 µs each.
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
        self._settings = settings
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
        room = self._delivery.room
        size = self._claim(request)
        room.enter(size)
        try:
            body = await self._read_body(request)
            reading = await self._read(body, project)
            entries = self._entries(reading, project)
            room.add(len(entries))
            try:
                if entries:
                    await self._delivery.keep(entries, len(body))
            finally:
                room.remove(len(entries))
        finally:
            room.leave(size)
        if reading.rejections and not reading.events:
            raise InvalidCallbackError(_summary(reading))
        self._tally.acknowledged(reading.way, reading.events, len(reading.rejections), time.perf_counter() - began)
        return self._acks.ack(request)

    def _claim(self, request: web.BaseRequest) -> int:
        """Return the bytes that a callback may take: what is here, what it announces, or the most."""
        content = request.content
        if content.is_eof():
            return content.total_bytes
        announced = request.content_length
        most = self._settings.max_body
        if announced is not None and announced > most:
            raise self._too_large()
        return most if announced is None or "Content-Encoding" in request.headers else min(announced, most)

    async def _read_body(self, request: web.BaseRequest) -> bytes:
        try:
            if request.content.is_eof():
                body = request.content.read_nowait()
            else:
                async with asyncio.timeout(self._settings.read_timeout):
                    body = await request.read()
        except TimeoutError:
            raise ReadTimeoutError(f"the body did not arrive within {self._settings.read_timeout:g} s") from None
        except web.HTTPRequestEntityTooLarge:
            raise self._too_large() from None
        except web.RequestPayloadError as error:
            raise InvalidCallbackError(f"the body cannot be read: {_said(error)}") from None
        if len(body) > self._settings.max_body:
            raise self._too_large()
        return body

    def _too_large(self) -> TooLargeError:
        most = self._settings.max_body
        return TooLargeError(f"the body is larger than {most} bytes (RECEIVER_MAX_BODY), after decompression")

    async def _read(self, body: bytes, project: Project) -> Reading:
        arguments = body, project.sign_id, self._settings.max_items
        try:
            if len(body) <= _IN_THREAD and (reading := self.provider.read_fast(*arguments)):
                return reading
            if len(body) <= _SLOWLY_IN_THREAD:
                return self.provider.read_slowly(*arguments)
            return await asyncio.to_thread(self.provider.read, *arguments)
        except TooManyItemsError as error:
            raise TooLargeError(str(error)) from None

    def _entries(self, reading: Reading, project: Project) -> list[Entry]:
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


def _said(error: web.RequestPayloadError) -> str:
    """Return what aiohttp found wrong with a body, in one line."""
    cause = error.__cause__ if isinstance(error.__cause__, HttpProcessingError) else None
    return " ".join((cause.message if cause else str(error)).split()) or "it ended early"


def _summary(reading: Reading) -> str:
    problems = [problem for rejection in reading.rejections for problem in rejection.problems]
    more = len(problems) - _MOST_PROBLEMS
    return "; ".join(problems[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")

"""The whole way of a callback, top to bottom in ``Callbacks.take``.

Authenticate, admit, read, verify, parse, envelope, store, acknowledge. Requests enter at ``receive``; those to a URL
that was authenticated before enter at ``take``, by way of ``fast_path``, past aiohttp's router.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from receiver import metrics
from receiver.errors import (
    BadSignatureError,
    InvalidCallbackError,
    MethodNotAllowedError,
    NotFoundError,
    RateLimitedError,
    TooLargeError,
    summary,
)
from receiver.events import EnvelopeBuilder
from receiver.providers import DEFAULT, PROVIDERS
from receiver.providers.base import CallbackRequest
from receiver.providers.json_items import TooManyItemsError
from receiver.web.acks import Acks
from receiver.web.bodies import Bodies

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from aiohttp import web

    from receiver.delivery.delivery import Delivery
    from receiver.events import Entry
    from receiver.projects import Project
    from receiver.providers.base import ParsedCallback, Provider
    from receiver.routing import ProjectRoutes, Routing
    from receiver.settings import Settings
    from receiver.web.admission import AdmissionControl
    from receiver.web.callback_auth import CallbackAuth
    from receiver.web.fetcher import Fetcher

#: A larger body, that of 500 reports or more, takes one of two slots and is parsed in a thread: 500 take 1 ms.
_LARGE: Final = 128 << 10
#: Seconds that the slow path takes: an object with seven wrong fields, any other value, and a byte, of brackets.
_OBJECT: Final = 75e-6
_VALUE: Final = 8e-6
_BYTE: Final = 0.25e-6
#: A body that takes longer than this on the slow path waits for a slot and is parsed in a thread.
_BRIEF: Final = 1e-3
_NO_SLOT: Final = nullcontext()


class Endpoint:
    """One project at one provider: all that is the same for each of its callbacks."""

    __slots__ = ("_builder", "_routes", "acks", "counters", "open", "project", "provider", "verifies")

    def __init__(
        self, project: Project, provider: Provider, routes: ProjectRoutes, counters: metrics.BatchedCounters
    ) -> None:
        self.project = project
        self.provider = provider
        self.counters = counters
        #: Whether anybody may post: there is neither a key nor a signature.
        self.open = not (project.callback_keys or provider.signed)
        self.verifies = provider.verifies
        self.acks = Acks(provider.ack)
        self._builder = EnvelopeBuilder(provider.name, project.id)
        self._routes = routes

    def envelope(self, parsed: ParsedCallback) -> list[Entry]:
        """Return the entries of what was parsed: each event with its id, its envelope and its topic."""
        build = self._builder.build
        topics = self._routes.table
        received_ms = time.time_ns() // 1_000_000
        entries = [build(event, topics[event.type], received_ms) for event in parsed.events]
        if parsed.rejections:
            entries += [build(r.event, topics[r.event.type], received_ms) for r in parsed.rejections]
        return entries


class Callbacks:
    """Receives the callbacks of all providers."""

    def __init__(  # noqa: PLR0913, PLR0917 the parts that a callback meets on its way
        self,
        settings: Settings,
        auth: CallbackAuth,
        admission: AdmissionControl,
        fetcher: Fetcher,
        routing: Routing,
        delivery: Delivery,
    ) -> None:
        self._settings = settings
        self._auth = auth
        self._admission = admission
        self._routing = routing
        self._delivery = delivery
        self._fetcher = fetcher
        self._bodies = Bodies(settings.max_body, settings.read_timeout, "RECEIVER_MAX_BODY")
        self._counters: dict[str, metrics.BatchedCounters] = {}
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        for project in settings.projects.values():
            for name in (DEFAULT.name, *project.providers):
                self._endpoint(name, project)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Find out whose callback it is, then take it. Answers the ack, or raises a ReceiverError."""
        name = request.match_info.get("provider", DEFAULT.name)
        if name not in PROVIDERS:
            raise NotFoundError(f"no such provider; there is {', '.join(PROVIDERS)}")
        endpoint = self._endpoint(name, self._auth.project(request.match_info.get("project_id")))
        if request.method not in endpoint.provider.methods:
            raise MethodNotAllowedError(request.method, ", ".join(sorted(endpoint.provider.methods)))
        self._auth.authenticate(request, endpoint)
        return await self.take(request, endpoint)

    async def take(self, request: web.BaseRequest, endpoint: Endpoint) -> web.StreamResponse:
        """Take a callback that is authenticated as far as URL and address go. The ack goes out when all is safe."""
        began = time.perf_counter()
        with self._admission.admit() as reservation:
            body = await self._bodies.read(request, reservation)
            callback = CallbackRequest(request.method, request.raw_path, request.headers, body)
            if endpoint.verifies:
                await self._verify(request, callback, endpoint.provider)
            async with self._slot(body):
                parsed, entries = await self._parse(callback, endpoint)
                reservation.take_events(len(entries))
                if parsed.confirmation is not None:
                    await self._fetcher.confirm(parsed.confirmation)
                if entries:
                    await self._delivery.store(entries, len(body))
        endpoint.counters.kept(parsed)
        if parsed.rejections and not parsed.events and not endpoint.provider.drops_on_4xx:
            # The quarantine has all the problems.
            raise InvalidCallbackError(summary(problem for one in parsed.rejections for problem in one.problems))
        endpoint.counters.acknowledged(time.perf_counter() - began)
        return endpoint.acks.ack(request)

    async def _verify(self, request: web.BaseRequest, callback: CallbackRequest, provider: Provider) -> None:
        """Check the provider's signature. Raises BadSignatureError, RateLimitedError or UnverifiableError."""
        try:
            url = provider.certificate_url(callback)
            certificate = None if url is None else await self._fetcher.certificate(url)
            provider.verify(callback, time.time(), certificate)
        except BadSignatureError:
            wait = self._auth.count_failure(request, "callback_signature")
            if wait is not None:
                raise RateLimitedError(wait, "the signature is wrong") from None
            raise

    def _slot(self, body: bytes) -> AbstractAsyncContextManager[None]:
        """Return what a large body waits for. Entering it raises OverloadedError when that takes too long."""
        return self._admission.large_body_slot() if len(body) > _LARGE else _NO_SLOT

    async def _parse(self, callback: CallbackRequest, endpoint: Endpoint) -> tuple[ParsedCallback, list[Entry]]:
        """Parse here what takes a ms or two, and the rest in a thread. Raises TooLargeError for too many items.

        The slow path may take most of a second. One body at a time takes it, and those that would have to wait for
        longer than a provider does are refused (OverloadedError).
        """
        parse_fast, parse_slow = endpoint.provider.parse_fast, endpoint.provider.parse_slow
        try:
            large = len(callback.body) > _LARGE
            parsed = await asyncio.to_thread(parse_fast, callback) if large else parse_fast(callback)
            if parsed is None:
                work = self._slow_path_seconds(callback.body)
                if work <= _BRIEF:
                    parsed = parse_slow(callback)
                else:
                    async with self._admission.tolerant_slot(work):
                        parsed = await asyncio.to_thread(parse_slow, callback)
        except TooManyItemsError as error:
            raise TooLargeError(str(error)) from None
        if len(callback.body) > _LARGE:
            return parsed, await asyncio.to_thread(endpoint.envelope, parsed)
        return parsed, endpoint.envelope(parsed)

    def _slow_path_seconds(self, body: bytes) -> float:
        """Return how long the slow path takes at most. Beyond ``max_items`` a body is refused."""
        objects, values = (min(body.count(mark), self._settings.max_items) for mark in (b"{", b","))
        return objects * _OBJECT + values * _VALUE + len(body) * _BYTE

    def _endpoint(self, name: str, project: Project) -> Endpoint:
        key = name, project.id
        if key not in self._endpoints:
            if name not in self._counters:
                self._counters[name] = metrics.BatchedCounters(name)
            provider = project.provider(name, self._settings.max_items)
            self._endpoints[key] = Endpoint(project, provider, self._routing[project.id], self._counters[name])
        return self._endpoints[key]

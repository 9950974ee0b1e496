"""The path of a callback, from the request to its ack.

``Callbacks.receive`` finds the endpoint and authenticates. ``Callbacks.process`` admits, reads, verifies, parses,
envelopes, stores and acknowledges. The fast path (``fast_path``) calls ``process`` directly for a URL that was
authenticated before.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from receiver.callback_counters import EndpointCounters
from receiver.errors import (
    BadSignatureError,
    InvalidCallbackError,
    MethodNotAllowedError,
    NotFoundError,
    TooLargeError,
    TooManyBadSignaturesError,
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
    from receiver.new_fields import NewFields
    from receiver.projects import Project
    from receiver.providers.base import ParsedCallback, Provider
    from receiver.routing import ProjectRoutes, Routing
    from receiver.settings import Settings
    from receiver.web.admission import AdmissionControl, Reservation
    from receiver.web.callback_auth import CallbackAuth
    from receiver.web.fetcher import Fetcher
    from receiver.web.rejected_items import RejectedItems

#: Bytes of a body, some 500 reports. A larger one waits for a slot, and is verified and parsed in a thread: each takes
#: over 1 ms.
_LARGE_BODY: Final = 128 << 10
#: Worst cases of the tolerant parser, in seconds: an object with seven wrong fields, another value, a byte (a bracket).
_SECONDS_PER_OBJECT: Final = 75e-6
_SECONDS_PER_VALUE: Final = 8e-6
_SECONDS_PER_BYTE: Final = 0.25e-6
#: Seconds. A body that may take the tolerant parser longer waits for a slot and is parsed in a thread.
_MAX_INLINE: Final = 1e-3
_NO_SLOT: Final = nullcontext()


class Endpoint:
    """One project at one provider: everything that its callbacks share."""

    __slots__ = (
        "_builder",
        "_routes",
        "acks",
        "bodies",
        "by_key",
        "counters",
        "open",
        "project",
        "provider",
        "verifies",
    )

    def __init__(
        self, project: Project, provider: Provider, routes: ProjectRoutes, bodies: Bodies, key: int | None = None
    ) -> None:
        """``key`` is the place, from 1, of the callback key that authenticated the callbacks; None for no key."""
        self.project = project
        self.provider = provider
        self.bodies = bodies
        #: Whether anyone may post: the project has no key, and the provider no signature.
        self.open = not (project.callback_keys or provider.signed)
        self.verifies = provider.verifies
        self.acks = Acks(provider.ack)
        keys = () if provider.signed or key is not None else range(1, len(project.callback_keys) + 1)
        #: The endpoint for each callback key. They differ in their counters, which so cost a callback nothing.
        self.by_key = tuple(Endpoint(project, provider, routes, bodies, number) for number in keys)
        self.counters: EndpointCounters = (
            self.by_key[0].counters if keys else EndpointCounters.of(project.id, type(provider), key)
        )
        self._builder = EnvelopeBuilder(provider.name, project.id)
        self._routes = routes

    def envelope(self, parsed: ParsedCallback) -> list[Entry]:
        """Return one entry for each event and each rejected item, with its id, envelope and topic."""
        build = self._builder.build
        routes, topics = self._routes, self._routes.table
        received_ms = time.time_ns() // 1_000_000
        if routes.partitions:
            entries = [build(event, routes.stream_of(event), received_ms) for event in parsed.events]
        else:
            entries = [build(event, topics[event.type], received_ms) for event in parsed.events]
        if parsed.rejections:
            entries += [build(r.event, topics[r.event.type], received_ms) for r in parsed.rejections]
        return entries


class Callbacks:
    """The handler of all callbacks."""

    def __init__(  # noqa: PLR0913, PLR0917 in the order in which a callback needs them
        self,
        settings: Settings,
        auth: CallbackAuth,
        admission: AdmissionControl,
        fetcher: Fetcher,
        routing: Routing,
        delivery: Delivery,
        new_fields: NewFields,
        rejected: RejectedItems,
    ) -> None:
        self._settings = settings
        self._auth = auth
        self._admission = admission
        self._routing = routing
        self._delivery = delivery
        self._fetcher = fetcher
        self._new_fields = new_fields
        self._rejected = rejected
        self.reload()

    def reload(self) -> None:
        """Make the endpoints of the projects as they are now. Callbacks in work keep theirs."""
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        for project in self._settings.projects.values():
            for name in (DEFAULT.name, *project.providers):
                self._endpoint(name, project)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Authenticate a request for its project and provider, then process it.

        Returns the ack. Raises a ReceiverError otherwise.
        """
        name = request.match_info.get("provider", DEFAULT.name)
        if name not in PROVIDERS:
            raise NotFoundError(f"unknown provider; use one of: {', '.join(PROVIDERS)}")
        endpoint = self._endpoint(name, self._auth.project(request.match_info.get("project_id")))
        if request.method not in endpoint.provider.methods:
            raise MethodNotAllowedError(request.method, ", ".join(sorted(endpoint.provider.methods)))
        answer = await self.process(request, self._auth.authenticate(request, endpoint))
        if endpoint.provider.signed and self._endpoints.get((name, endpoint.project.id)) is endpoint:  # not reloaded
            self._auth.remember(request, endpoint)
        return answer

    async def process(self, request: web.BaseRequest, endpoint: Endpoint) -> web.StreamResponse:
        """Process a callback whose URL and address are authenticated. Returns the ack once every item is durable."""
        started = time.perf_counter()
        with self._admission.admit() as reservation:
            body = await endpoint.bodies.read(request, reservation)
            callback = CallbackRequest(request.method, request.raw_path, request.headers, body)
            if endpoint.verifies:
                await self._verify(request, callback, endpoint.provider)
            async with self._slot(body):
                parsed, entries = await self._parse(callback, endpoint, reservation)
                reservation.add_events(len(entries))
                if parsed.confirmation is not None:
                    await self._fetcher.confirm(parsed.confirmation)
                if entries:
                    await self._delivery.store(entries, len(body))
        endpoint.counters.stored(parsed)
        if parsed.new_fields:
            self._new_fields.count(endpoint.provider.name, parsed.new_fields)
        if parsed.rejections:
            client = self._auth.client(request)
            self._rejected.count(client, endpoint.project.id, endpoint.provider.name, len(parsed.rejections))
            if not parsed.events and not endpoint.provider.drops_on_4xx:
                # The answer lists the first problems; the quarantine has all.
                raise InvalidCallbackError(
                    summary(problem for rejection in parsed.rejections for problem in rejection.problems)
                )
        endpoint.counters.acknowledged(time.perf_counter() - started)
        return endpoint.acks.ack(request)

    async def _verify(self, request: web.BaseRequest, callback: CallbackRequest, provider: Provider) -> None:
        """Check the provider's signature, of a large body in a thread.

        Raises BadSignatureError, TooManyBadSignaturesError, UnverifiableError, or OverloadedError for a large body.
        """
        try:
            url = provider.certificate_url(callback)
            certificate = None if url is None else await self._fetcher.certificate(url)
            if len(callback.body) > _LARGE_BODY:
                async with self._admission.large_body_slot():
                    await asyncio.to_thread(provider.verify, callback, time.time(), certificate)
            else:
                provider.verify(callback, time.time(), certificate)
        except BadSignatureError:
            wait = self._auth.count_failure(request, "callback_signature")
            if wait is not None:
                raise TooManyBadSignaturesError(wait, "the signature is wrong") from None
            raise

    def _slot(self, body: bytes) -> AbstractAsyncContextManager[None]:
        """Return a context that holds a slot for a large body. Entering it may raise OverloadedError."""
        return self._admission.large_body_slot() if len(body) > _LARGE_BODY else _NO_SLOT

    async def _parse(
        self, callback: CallbackRequest, endpoint: Endpoint, reservation: Reservation
    ) -> tuple[ParsedCallback, list[Entry]]:
        """Parse a callback and build its entries, a large body in a thread.

        Raises TooLargeError for too many items, and OverloadedError if the tolerant parser is busy or copies of what
        the items share have no room.
        """
        large = len(callback.body) > _LARGE_BODY
        parse_fast = endpoint.provider.parse_fast
        try:
            parsed = await asyncio.to_thread(parse_fast, callback) if large else parse_fast(callback)
            if parsed is None:
                parsed = await self._parse_tolerant(callback, endpoint.provider)
                reservation.add_bytes(parsed.copied_bytes)
        except TooManyItemsError as error:
            raise TooLargeError(str(error)) from None
        if large:
            return parsed, await asyncio.to_thread(endpoint.envelope, parsed)
        return parsed, endpoint.envelope(parsed)

    async def _parse_tolerant(self, callback: CallbackRequest, provider: Provider) -> ParsedCallback:
        """Parse item by item. This can take most of a second: then one body at a time, in a thread.

        Raises OverloadedError for a body that would wait longer than its provider does, and TooManyItemsError.
        """
        seconds = self._tolerant_seconds(callback.body)
        if seconds <= _MAX_INLINE:
            return provider.parse_tolerant(callback)
        async with self._admission.tolerant_slot(seconds):
            return await asyncio.to_thread(provider.parse_tolerant, callback)

    def _tolerant_seconds(self, body: bytes) -> float:
        """Return the maximum time of the tolerant parser, which refuses more than ``max_items``."""
        objects, values = (min(body.count(mark), self._settings.max_items) for mark in (b"{", b","))
        return objects * _SECONDS_PER_OBJECT + values * _SECONDS_PER_VALUE + len(body) * _SECONDS_PER_BYTE

    def _endpoint(self, name: str, project: Project) -> Endpoint:
        key = name, project.id
        if key not in self._endpoints:
            provider = project.provider(name, self._settings.max_items)
            self._endpoints[key] = Endpoint(project, provider, self._routing[project.id], self._bodies_of(provider))
        return self._endpoints[key]

    def _bodies_of(self, provider: Provider) -> Bodies:
        settings = self._settings
        limit = provider.max_signed_body if provider.signed else None
        if limit is None or limit >= settings.max_body:
            return Bodies(settings.max_body, settings.read_timeout, "RECEIVER_MAX_BODY")
        return Bodies(limit, settings.read_timeout)

"""Bodies of lookups. Each route has a limit, and the bytes count as in flight, as those of callbacks do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from receiver.web.bodies import Bodies

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from receiver.web.admission import AdmissionControl, Reservation

    BodyReader = Callable[[web.Request], Awaitable[bytes]]
    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _LazyBody:
    """The body of one request, read on first use: to check a signature, or to parse it."""

    def __init__(self, bodies: Bodies, request: web.Request, reservation: Reservation) -> None:
        self._bodies = bodies
        self._request = request
        self._reservation = reservation
        self._bytes: bytes | None = None

    async def read(self) -> bytes:
        if self._bytes is None:
            self._bytes = await self._bodies.read(self._request, self._reservation)
        return self._bytes


_BODY: Final = web.RequestKey("body", _LazyBody)


class LimitedBodies:
    """Gives handlers access to their bodies, within admission control."""

    def __init__(self, admission: AdmissionControl, timeout: float) -> None:
        """``timeout`` is in seconds, for a body to arrive."""
        self._admission = admission
        self._timeout = timeout

    def up_to(self, size: int, handler: Handler) -> Handler:
        """Return the handler with bodies of at most ``size`` bytes. A body counts as in flight until the response."""
        bodies = Bodies(size, self._timeout)

        async def handle(request: web.Request) -> web.StreamResponse:
            with self._admission.admit() as reservation:
                request[_BODY] = _LazyBody(bodies, request, reservation)
                return await handler(request)

        return handle


async def read_body(request: web.Request) -> bytes:
    """Return the body of a request. Its handler must be wrapped by LimitedBodies.

    Raises ReadTimeoutError (408), TooLargeError (413), OverloadedError (503) and InvalidCallbackError (400).
    """
    return await request[_BODY].read()

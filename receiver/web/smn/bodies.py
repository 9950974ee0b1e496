"""Bodies of lookups: each route has a limit, and they count among the bytes in flight as callbacks do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from receiver.web.bodies import Bodies

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from receiver.web.admission import AdmissionControl, Reservation

    Body = Callable[[web.Request], Awaitable[bytes]]
    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Body:
    """The body of one request, read from the wire when it is first asked for: by a signature, or by the parser."""

    def __init__(self, bodies: Bodies, request: web.Request, place: Reservation) -> None:
        self._bodies = bodies
        self._request = request
        self._place = place
        self._bytes: bytes | None = None

    async def read(self) -> bytes:
        if self._bytes is None:
            self._bytes = await self._bodies.read(self._request, self._place)
        return self._bytes


_BODY: Final = web.RequestKey("body", _Body)


class LimitedBodies:
    """Gives handlers their bodies, within the room that all requests share."""

    def __init__(self, admission: AdmissionControl, timeout: float) -> None:
        """Take the room, and the seconds within which a body has to arrive."""
        self._admission = admission
        self._timeout = timeout

    def up_to(self, size: int, handler: Handler) -> Handler:
        """Return the handler, for bodies of so many bytes. What it reads is held until it has answered."""
        bodies = Bodies(size, self._timeout)

        async def handle(request: web.Request) -> web.StreamResponse:
            with self._admission.admit() as place:
                request[_BODY] = _Body(bodies, request, place)
                return await handler(request)

        return handle


async def read_body(request: web.Request) -> bytes:
    """Return the body of a request to a handler of LimitedBodies.

    Raises ReadTimeoutError (408), TooLargeError (413), OverloadedError (503) and InvalidCallbackError (400).
    """
    return await request[_BODY].read()

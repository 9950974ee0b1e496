"""Our changes to aiohttp's server: fast path, connection bound, shutdown, and malformed requests."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from receiver import metrics
from receiver.providers import DEFAULT
from receiver.web.acks import harden

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from receiver.web.connections import Connections
    from receiver.web.fast_path import FastPath, Handler
    from receiver.web.ports import Ports

# Private members of aiohttp, checked by tests/test_dependencies.py; it has no public way to either:
# - RequestHandler's ``_keepalive_handle``, ``_request_count``, ``_waiter``, ``_current_request``,
#   ``_process_keepalive`` and ``_next_keepalive_close_time`` give the first request its own timeout, and find idle and
#   stalled connections.
# - RequestHandler's ``_request_handler`` serves the connections of the internal port differently.
# - Server's ``_kwargs`` and AppRunner's ``_make_server`` put the fast path before the router.

#: Seconds in which the rest of a refused body is read and dropped, so that its sender sees the answer.
_LINGERING: Final = 1.0
#: Seconds between closing the port and closing connections, so that just accepted ones can still be served.
DRAIN_GRACE: Final = 0.25


class Connection(RequestHandler):
    """A connection that answers malformed requests in JSON and hides version numbers."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Apply our timeout for the first request; aiohttp would use the keep-alive timeout."""
        super().connection_made(transport)
        if self._keepalive_handle is not None and isinstance(self._manager, Server):
            self._keepalive_handle.cancel()
            first = self._manager.first_request_timeout
            self._keepalive_handle = self._loop.call_later(first, self._process_first_request)

    def _process_first_request(self) -> None:
        self._keepalive_handle = None
        if self.silent:
            self.drop()
        else:
            self._process_keepalive()

    @property
    def silent(self) -> bool:
        """Whether it has never sent a complete request head."""
        return self._request_count == 0

    @property
    def idle(self) -> bool:
        """Whether it waits for the next request."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def stalled(self) -> bool:
        """Whether its request waits for the client to send the body or read the response."""
        request = self._current_request
        return self.writing_paused or (request is not None and not request.content.is_eof())

    @property
    def waiting_since(self) -> float:
        """When it last answered, or was opened, by the event loop's clock."""
        return self._next_keepalive_close_time - self._keepalive_timeout

    def serve_with(self, handler: Handler) -> None:
        """Serve its requests with another handler than that of the server."""
        self._request_handler = handler

    def drop(self) -> None:
        """Close it at once."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Write a response. Every response passes here, aiohttp's own included."""
        harden(resp)
        return super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a malformed request, then close the connection."""
        if status != HTTPStatus.BAD_REQUEST or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        metrics.UNREADABLE.inc()
        reason = (message or "not HTTP").strip().splitlines()[0]
        refusal = DEFAULT().refuse(status, reason)
        answer = web.Response(body=refusal.body, status=refusal.status, content_type=refusal.content_type)
        answer.force_close()
        return answer


class Server(web.Server):
    """Creates our connections, up to the bound."""

    #: The response beyond the bound. No request has been read, so the API is unknown.
    _BUSY: Final = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: {}\r\nContent-Length: {}\r\nRetry-After: 1\r\n"
        "Connection: close\r\n\r\n"
    )

    def __init__(
        self,
        handler: Handler,
        connections: Connections,
        first_request_timeout: float,
        internal: tuple[int, Handler] | None,
        **options: Any,  # noqa: ANN401 aiohttp's
    ) -> None:
        """``first_request_timeout`` is in seconds. ``internal`` is the internal port with its handler."""
        super().__init__(handler, **options)
        self._internal = internal
        self._open_connections = connections
        self.first_request_timeout = first_request_timeout
        answer = DEFAULT().refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; send again later")
        self._busy = self._BUSY.format(answer.content_type, len(answer.body)).encode() + answer.body

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Add a connection, or answer 503 and close it."""
        super().connection_made(handler, transport)
        if not isinstance(handler, Connection):
            return
        if self._internal is not None and _port_of(transport) == self._internal[0]:
            handler.serve_with(self._internal[1])
        if not self._open_connections.add(handler):
            transport.write(self._busy)
            handler.force_close()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Remove a connection."""
        super().connection_lost(handler, exc)
        if isinstance(handler, Connection):
            self._open_connections.remove(handler)

    def __call__(self) -> Connection:
        """Return the protocol for a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)


def _port_of(transport: asyncio.Transport) -> int | None:
    """Return the port of ours that a connection came to; None if it is gone already."""
    name = transport.get_extra_info("sockname")
    return name[1] if name else None


class Runner(web.AppRunner):
    """Runs an application behind its fast path."""

    def __init__(  # noqa: PLR0913 the options of serving
        self,
        app: web.Application,
        fast_path: FastPath,
        connections: Connections,
        ports: Ports,
        *,
        shutdown_timeout: float,
        keepalive: float,
        first_request: float,
    ) -> None:
        """All times are in seconds: for requests in flight at shutdown, idle connections, and first requests."""
        super().__init__(
            app,
            access_log=None,
            shutdown_timeout=shutdown_timeout,
            keepalive_timeout=keepalive,
            lingering_time=_LINGERING,
            auto_decompress=False,  # web/decompression.py does it, for admitted requests only
        )
        self._fast_path = fast_path
        self._ports = ports
        self._connections = connections
        self._first_request = first_request

    async def cleanup(self) -> None:
        """Stop listening, serve the accepted connections, then shut down."""
        for site in list(self.sites):
            await site.stop()
        await asyncio.sleep(DRAIN_GRACE)
        await super().cleanup()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        application, ports = server.request_handler, self._ports
        handler = self._fast_path.before(ports.public(application))
        internal = None if ports.internal is None else (ports.internal, ports.inside(application))
        options = {"request_factory": server.request_factory, **server._kwargs}  # noqa: SLF001 aiohttp has no other way
        return Server(handler, self._connections, self._first_request, internal, **options)

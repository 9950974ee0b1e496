"""What is ours in how aiohttp serves: the fast_path in front, how a stop goes, and the answer to what is no request."""

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

# Private members of aiohttp, checked by tests/test_dependencies.py; it has no public way to either:
# - RequestHandler's ``_keepalive_handle``, ``_request_count``, ``_waiter``, ``_current_request``,
#   ``_process_keepalive`` and ``_next_keepalive_close_time`` give the first request its own timeout, and find idle and
#   stalled connections.
# - Server's ``_kwargs`` and AppRunner's ``_make_server`` put the fast path before the router.

#: Seconds in which the rest of a refused body is read and dropped, so that its sender sees the answer.
_LINGERING: Final = 1.0
#: Seconds between closing the port and closing connections: those just accepted get their request in, and its answer.
DRAIN_GRACE: Final = 0.25


class Connection(RequestHandler):
    """A connection that answers in JSON what cannot be read as a request, and does not tell our versions."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Expect the first request sooner than aiohttp does, which takes an idle connection's time for it."""
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
        """Whether it has never sent a whole head of a request."""
        return self._request_count == 0

    @property
    def idle(self) -> bool:
        """Whether it waits for the next request."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def stalled(self) -> bool:
        """Whether its request waits for the client, to send the body or to read the answer."""
        request = self._current_request
        return self.writing_paused or (request is not None and not request.content.is_eof())

    @property
    def waiting_since(self) -> float:
        """When it answered last, or was opened, on the event loop's clock."""
        return self._next_keepalive_close_time - self._keepalive_timeout

    def drop(self) -> None:
        """Close it at once."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Write an answer; each comes this way, aiohttp's own included."""
        harden(resp)
        return super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request of which not even the path is known. Then the connection is closed."""
        if status != HTTPStatus.BAD_REQUEST or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        metrics.UNREADABLE.inc()
        reason = (message or "not HTTP").strip().splitlines()[0]
        refusal = DEFAULT().refuse(status, reason)
        answer = web.Response(body=refusal.body, status=refusal.status, content_type=refusal.content_type)
        answer.force_close()
        return answer


class Server(web.Server):
    """Makes our connections, as many as there may be."""

    #: What a client gets that there is no room for. Whose API it would have called is not known.
    _BUSY: Final = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: {}\r\nContent-Length: {}\r\nRetry-After: 1\r\n"
        "Connection: close\r\n\r\n"
    )

    def __init__(
        self,
        handler: Handler,
        connections: Connections,
        first_request_timeout: float,
        **options: Any,  # noqa: ANN401 aiohttp's
    ) -> None:
        """Take the bound on connections, and the seconds for the first request to arrive."""
        super().__init__(handler, **options)
        self._open = connections
        self.first_request_timeout = first_request_timeout
        answer = DEFAULT().refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; send again later")
        self._busy = self._BUSY.format(answer.content_type, len(answer.body)).encode() + answer.body

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection in, or answer 503 and close it."""
        super().connection_made(handler, transport)
        if isinstance(handler, Connection) and not self._open.admit(handler):
            transport.write(self._busy)
            handler.force_close()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        super().connection_lost(handler, exc)
        if isinstance(handler, Connection):
            self._open.remove(handler)

    def __call__(self) -> Connection:
        """Return what talks to a client that has just connected."""
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application with its fast_path."""

    def __init__(  # noqa: PLR0913 all that there is to choose about serving
        self,
        app: web.Application,
        fast_path: FastPath,
        connections: Connections,
        *,
        shutdown_timeout: float,
        keepalive: float,
        first_request: float,
    ) -> None:
        """Take times in seconds: for requests in flight at the end, for idle connections, and for first requests."""
        super().__init__(
            app,
            access_log=None,
            shutdown_timeout=shutdown_timeout,
            keepalive_timeout=keepalive,
            lingering_time=_LINGERING,
            auto_decompress=False,  # web/decompression.py does so, for those who are let in
        )
        self._fast_path = fast_path
        self._connections = connections
        self._first_request = first_request

    async def cleanup(self) -> None:
        """Stop listening, serve whom we have accepted, then end."""
        for site in list(self.sites):
            await site.stop()
        await asyncio.sleep(DRAIN_GRACE)
        await super().cleanup()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        handler = self._fast_path.before(server.request_handler)
        options = {"request_factory": server.request_factory, **server._kwargs}  # noqa: SLF001 aiohttp has no other way
        return Server(handler, self._connections, self._first_request, **options)

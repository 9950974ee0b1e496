"""What is ours in how aiohttp serves: the shortcut in front, how a stop goes, and the answer to what is no request."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from receiver import metrics
from receiver.providers import PROVIDERS
from receiver.web.answers import JSON

if TYPE_CHECKING:
    from receiver.web.shortcut import Shortcut

#: Seconds in which the rest of a refused body is read and dropped, so that its sender sees the answer.
_LINGERING: Final = 1.0
#: Seconds between closing the port and closing connections: those just accepted get their request in, and its answer.
LAST_CALL: Final = 0.25


class Connection(RequestHandler):
    """A connection that answers in JSON what cannot be read as a request."""

    __slots__ = ()

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
        answer = web.Response(body=PROVIDERS["tencent"].answer(status, reason), status=status, content_type=JSON)
        answer.force_close()
        return answer


class Server(web.Server):
    """Makes our connections."""

    def __call__(self) -> Connection:
        """Return what talks to a client that has just connected."""
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application with its shortcut."""

    def __init__(self, app: web.Application, shortcut: Shortcut, *, shutdown_timeout: float, keepalive: float) -> None:
        """Take times in seconds: for requests in flight at the end, and for idle connections."""
        super().__init__(
            app,
            access_log=None,
            shutdown_timeout=shutdown_timeout,
            keepalive_timeout=keepalive,
            lingering_time=_LINGERING,
            auto_decompress=False,  # web/decompression.py does so, for those who are let in
        )
        self._shortcut = shortcut

    async def cleanup(self) -> None:
        """Stop listening, serve whom we have accepted, then end."""
        for site in list(self.sites):
            await site.stop()
        await asyncio.sleep(LAST_CALL)
        await super().cleanup()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        handler = self._shortcut.before(server.request_handler)
        return Server(handler, request_factory=server.request_factory, **server._kwargs)  # noqa: SLF001 aiohttp has no other way

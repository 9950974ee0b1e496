"""The short way for callbacks: past aiohttp's router and middlewares, which cost as much as reading the callback.

A provider posts to the same URL over and over. Once the gate has admitted it by the long way, a POST to exactly that
URL whose body has arrived goes straight to ``Callbacks.take``. Everything else takes the long way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from receiver.web.callbacks import Callbacks
    from receiver.web.gate import Gate
    from receiver.web.middleware import ErrorAnswers


#: Seconds in which the rest of a refused body is read and dropped, so that its sender sees the answer. aiohttp's own
#: 10 s would go on unpacking a body that was refused because it unpacks to too much.
_LINGERING: Final = 1.0
#: Seconds between closing the port and closing connections: those just accepted get their request in, and its answer.
_LAST_CALL: Final = 0.25


class Shortcut:
    """Stands in front of an application."""

    def __init__(self, gate: Gate, callbacks: Mapping[str, Callbacks], errors: ErrorAnswers) -> None:
        """Hand the collaborators over."""
        self._gate = gate
        self._callbacks = callbacks
        self._errors = errors
        self._application: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None

    def install(self, server: web.Server) -> None:
        """Put the shortcut before what the server called until now."""
        self._application = server.request_handler
        server.request_handler = self._handle

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        known = self._gate.known(request.raw_path)
        if known is None or request.method != "POST" or not request.content.is_eof():
            return await self._application(request)  # type: ignore[misc]  # installed, or we were not called
        try:
            self._gate.check_address(request, known.project)
            return await self._callbacks[known.provider].take(request, known.project)
        except Exception as error:  # noqa: BLE001 whatever it is, the caller gets an answer
            return self._errors.answer(request, error)


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
        )
        self._shortcut = shortcut

    async def setup(self) -> None:
        """Start the application, then install the shortcut: connections made from now on take it."""
        await super().setup()
        if self.server is not None:
            self._shortcut.install(self.server)

    async def cleanup(self) -> None:
        """Stop listening, serve whom we have accepted, then end."""
        for site in list(self.sites):
            await site.stop()
        await asyncio.sleep(_LAST_CALL)
        await super().cleanup()

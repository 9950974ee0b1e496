"""The fast path of callbacks: around aiohttp's router and middlewares, which cost as much as parsing a callback.

A provider posts to the same URL again and again. The first request goes through the router and authenticates the URL.
A later POST to exactly that URL, with its body complete, goes straight to ``Callbacks.process``. All other requests go
through the router.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from receiver.web.callback_auth import CallbackAuth
    from receiver.web.callbacks import Callbacks
    from receiver.web.middleware import ErrorResponses

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class FastPath:
    """Handles callbacks to authenticated URLs, and passes all other requests to the application."""

    def __init__(self, auth: CallbackAuth, callbacks: Callbacks, errors: ErrorResponses) -> None:
        self._auth = auth
        self._callbacks = callbacks
        self._errors = errors
        self._application: Handler | None = None

    def before(self, application: Handler) -> Handler:
        """Return a handler that tries the fast path first, then the application's own handler."""
        self._application = application
        return self._handle

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        endpoint = self._auth.authenticated(request.raw_path)
        if endpoint is None:
            endpoint = self._auth.authenticated_by_header(request)
        if endpoint is None or request.method != "POST" or not request.content.is_eof():
            return await self._application(request)  # type: ignore[misc]  # ``before`` has set it
        try:
            self._auth.check_client(request, endpoint)
            return await self._callbacks.process(request, endpoint)
        except Exception as error:  # noqa: BLE001 every exception becomes an answer
            return self._errors.answer(request, error)

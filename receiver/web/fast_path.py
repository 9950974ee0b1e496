"""The short way for callbacks: past aiohttp's router and middlewares, which cost as much as reading the callback.

A provider posts to the same URL over and over. Once the auth has admitted it by the long way, a POST to exactly that
URL whose body has arrived goes straight to ``Callbacks.take``. Everything else takes the long way.
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
    """Stands in front of an application."""

    def __init__(self, auth: CallbackAuth, callbacks: Callbacks, errors: ErrorResponses) -> None:
        self._auth = auth
        self._callbacks = callbacks
        self._errors = errors
        self._application: Handler | None = None

    def before(self, application: Handler) -> Handler:
        """Return a handler that takes the fast_path where there is one, and else goes to the application."""
        self._application = application
        return self._handle

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        endpoint = self._auth.admitted(request.raw_path)
        if endpoint is None or request.method != "POST" or not request.content.is_eof():
            return await self._application(request)  # type: ignore[misc]  # or we would not be called
        try:
            self._auth.check_client(request, endpoint)
            return await self._callbacks.take(request, endpoint)
        except Exception as error:  # noqa: BLE001 whatever it is, the caller gets an answer
            return self._errors.answer(request, error)

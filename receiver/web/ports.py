"""The optional second port, for everything but callbacks and probes: lookups, metrics, documents, the console.

Without it one port serves all. Which port a connection belongs to is decided once, when it is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.errors import NotFoundError

if TYPE_CHECKING:
    from aiohttp import web

    from receiver.web.fast_path import Handler
    from receiver.web.middleware import ErrorResponses

#: What the public port serves: what providers and a load balancer ask for.
CALLBACK_PATHS: Final = ("/sms/callback", "/callbacks/")
NO_SUCH_PATH: Final = "no such path; callbacks go to /sms/callback or /callbacks/{provider}/{project_id}"
_PROBES: Final = ("/livez", "/readyz")


def is_public(path: str) -> bool:
    """Return whether the public port serves a path if there is a second port."""
    return path.startswith(CALLBACK_PATHS) or path in _PROBES


class Ports:
    """Separates what the two ports serve."""

    def __init__(self, internal: int | None, errors: ErrorResponses) -> None:
        """Take the number of the second port, or None if there is one port for all."""
        self.internal = internal
        self._errors = errors

    def public(self, application: Handler) -> Handler:
        """Return a handler for the public port. To a stranger other paths do not exist."""
        if self.internal is None:
            return application

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if is_public(request.path):
                return await application(request)
            # Unlike the router's answer, it does not reveal what the other port serves.
            return self._errors.answer(request, NotFoundError(NO_SUCH_PATH))

        return handle

    def inside(self, application: Handler) -> Handler:
        """Return a handler for the internal port, which has the probes as well."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.path.startswith(CALLBACK_PATHS):
                return self._errors.answer(request, NotFoundError("callbacks are served on the public port, PORT"))
            return await application(request)

        return handle

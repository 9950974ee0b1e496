"""The only place that turns errors into responses, each in the format of the API that was called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

import msgspec
from aiohttp import web

from receiver import metrics
from receiver.errors import (
    ForbiddenError,
    ForeignError,
    GatewayError,
    MethodNotAllowedError,
    NotFoundError,
    ReadTimeoutError,
    ReceiverError,
    SmnError,
    TooLargeError,
)
from receiver.providers import DEFAULT, PROVIDERS
from receiver.providers.base import JSON
from receiver.web.ports import CALLBACK_PATHS, NO_SUCH_PATH
from receiver.web.smn.error_codes import FORBIDDEN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from receiver.log import Logger
    from receiver.providers.base import Provider

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID: Final = "X-Request-Id"
_SMN_PATHS: Final = ("/v2/", "/v3/")


def smn_response(body: dict[str, object], status: int = 200) -> web.Response:
    """Return a JSON response with a new ``request_id`` (32 hex digits), in the body and in ``X-Request-Id``."""
    request_id = uuid4().hex
    content = msgspec.json.encode({"request_id": request_id, **body})
    return web.Response(body=content, status=status, content_type=JSON, headers={REQUEST_ID: request_id})


class ErrorResponses:
    """Answers exceptions: an aiohttp middleware, and ``answer`` for the fast path, which skips the middlewares."""

    __middleware_version__ = 1  # what aiohttp's decorator sets on functions

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Run the handler and turn any exception into a response."""
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 every exception becomes an answer
            return self.answer(request, error)

    def answer(self, request: web.BaseRequest, error: Exception) -> web.Response:
        """Return the response to an exception. Re-raises a ConnectionError: the client has gone."""
        if isinstance(error, ReceiverError):
            return _answer(request, error)
        if isinstance(error, web.HTTPException):
            return _answer(request, _translated(request, error))
        if isinstance(error, ConnectionError):
            raise error
        self._logger.error("request.failed", method=request.method, path=request.path, exc_info=error)
        return _answer(request, ReceiverError("internal error; it has been logged"))


def _translated(request: web.BaseRequest, error: web.HTTPException) -> ReceiverError:
    """Translate aiohttp's own errors."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        callback = request.path.startswith(CALLBACK_PATHS)
        allowed = _provider_of(request.path).methods if callback else error.allowed_methods
        return MethodNotAllowedError(request.method, ", ".join(sorted(allowed)))
    if isinstance(error, web.HTTPNotFound):
        return NotFoundError(f"{NO_SUCH_PATH}; /docs lists all paths")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLargeError("the body is too large")
    return ForeignError(error.status, error.reason)


def _provider_of(path: str) -> type[Provider]:
    """Return the provider that a callback's path names."""
    return PROVIDERS.get(path.split("/")[2], DEFAULT)


def _answer(request: web.BaseRequest, error: ReceiverError) -> web.Response:
    response = _smn_answer(error) if request.path.startswith(_SMN_PATHS) else _provider_answer(request, error)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, MethodNotAllowedError):
        response.headers["Allow"] = error.allowed
    return response


def _smn_answer(error: ReceiverError) -> web.Response:
    if isinstance(error, GatewayError):
        return smn_response({"error_msg": str(error), "error_code": error.gateway_code}, error.status)
    if isinstance(error, SmnError):
        return smn_response({"code": error.smn_code, "message": str(error)}, error.status)
    if isinstance(error, ForbiddenError):
        return smn_response({"code": FORBIDDEN.code, "message": str(error)}, error.status)
    code = "SMN.0018" if error.status >= web.HTTPInternalServerError.status_code else "SMN.0013"
    return smn_response({"code": code, "message": str(error)}, error.status)


def _provider_answer(request: web.BaseRequest, error: ReceiverError) -> web.Response:
    provider = DEFAULT
    if request.path.startswith(CALLBACK_PATHS):
        provider = _provider_of(request.path)
        metrics.CALLBACKS.labels(provider.name, error.code).inc()
    # A 408 would make this provider drop the callback; a 503 makes it retry.
    retry_as_503 = isinstance(error, ReadTimeoutError) and provider.drops_on_4xx
    answer = provider().refuse(web.HTTPServiceUnavailable.status_code if retry_as_503 else error.status, str(error))
    return web.Response(body=answer.body, status=answer.status, content_type=answer.content_type)

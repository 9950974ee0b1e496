"""Errors become answers here and nowhere else, each in the words of the API that the caller speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

import msgspec
from aiohttp import web

from receiver import metrics
from receiver.errors import (
    GatewayError,
    MethodNotAllowedError,
    NotFoundError,
    ReceiverError,
    SmnError,
    TooLargeError,
)
from receiver.providers import PROVIDERS
from receiver.web.answers import JSON

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from receiver.log import Logger

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID: Final = "X-Request-Id"
_SMN_PATHS: Final = ("/v2/", "/v3/")


def new_request_id() -> str:
    """Return 32 hex digits that no other request has."""
    return uuid4().hex


def smn_response(body: dict[str, object], status: int = 200, request_id: str | None = None) -> web.Response:
    """Return a JSON object with its ``request_id``, which stands in the header as well."""
    request_id = request_id or new_request_id()
    content = msgspec.json.encode({"request_id": request_id, **body})
    return web.Response(body=content, status=status, content_type=JSON, headers={REQUEST_ID: request_id})


def answer_errors(logger: Logger) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """Return the middleware."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ReceiverError as error:
            return _answer(request, error)
        except web.HTTPException as error:
            return _answer(request, _ours(request, error))
        except ConnectionError:
            raise  # the client is gone; aiohttp closes the connection
        except Exception:
            logger.exception("request.failed", method=request.method, path=request.path)
            return _answer(request, ReceiverError("internal error; it has been logged"))

    return middleware


def _ours(request: web.Request, error: web.HTTPException) -> ReceiverError:
    """Translate what aiohttp raises by itself."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        return MethodNotAllowedError(f"{request.method} is not allowed here; use {', '.join(sorted(error.allowed_methods))}")
    if isinstance(error, web.HTTPNotFound):
        return NotFoundError("no such path; callbacks go to /sms/callback or /callbacks/{provider}/{project_id}")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLargeError("the body is too large")
    translated = ReceiverError(error.reason)
    translated.status = error.status  # type: ignore[misc] the one place where a foreign status comes in
    return translated


def _answer(request: web.Request, error: ReceiverError) -> web.Response:
    if request.path.startswith(_SMN_PATHS):
        response = _smn_answer(error)
    else:
        response = _provider_answer(request, error)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, MethodNotAllowedError):
        response.headers["Allow"] = str(error).rpartition("use ")[2]
    return response


def _smn_answer(error: ReceiverError) -> web.Response:
    request_id = new_request_id()
    if isinstance(error, GatewayError):
        return smn_response({"error_msg": str(error), "error_code": "APIG.0301"}, 401, request_id)
    if isinstance(error, SmnError):
        return smn_response({"code": error.smn_code, "message": str(error)}, error.http_status, request_id)
    code = "SMN.0018" if error.status >= web.HTTPInternalServerError.status_code else "SMN.0013"
    return smn_response({"code": code, "message": str(error)}, error.status, request_id)


def _provider_answer(request: web.Request, error: ReceiverError) -> web.Response:
    name = request.match_info.get("provider", "tencent")
    provider = PROVIDERS.get(name, PROVIDERS["tencent"])
    if request.match_info.route.name == "callback":
        metrics.CALLBACKS.labels(provider.name, error.code).inc()
    body = provider.answer(error.status, str(error))
    return web.Response(body=body, status=error.status, content_type=JSON)

"""Protects open projects from requests that web pages make (cross-site requests, DNS rebinding).

A page that a developer visits can post to a service on the loopback address. With a name that resolves to the page's
own server first and to 127.0.0.1 later, it can also read the responses. Keys and tokens prevent both, but an open
project has none. Browsers send the page's origin in headers that scripts cannot change:
https://developer.mozilla.org/docs/Glossary/Forbidden_request_header.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs
from multidict import istr

from receiver.errors import ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SEC_FETCH_SITE: Final = istr("Sec-Fetch-Site")
_HOST: Final = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?", re.IGNORECASE)


class BrowserGuard:
    """Checks requests to open projects."""

    def __init__(self, *, any_host: bool) -> None:
        """``any_host``: accept any Host header, because the operator restricts access in another way."""
        self._any_host = any_host

    def check(self, request: web.BaseRequest) -> None:
        """Raise ForbiddenError if the Origin or Host header shows that a foreign page may have sent the request."""
        self.check_origin(request)
        # Browsers always send Host.
        host = request.headers.get(hdrs.HOST)
        if host and not self._any_host and not is_local(host):
            raise ForbiddenError(
                "the project is open, and the Host header is neither localhost nor a loopback address: the request may "
                "come from a web page (DNS rebinding). Configure callback_keys and tokens for the project, or set "
                "RECEIVER_ALLOW_OPEN=1 if clients use other names of the service"
            )

    def check_origin(self, request: web.BaseRequest) -> None:
        """Raise ForbiddenError if a page of another origin sent the request. Only browsers send these headers."""
        headers = request.headers
        origin = headers.get(hdrs.ORIGIN)
        foreign = origin is not None and origin.partition("://")[2].lower() != headers.get(hdrs.HOST, "").lower()
        if foreign or headers.get(_SEC_FETCH_SITE) == "cross-site":
            raise ForbiddenError(
                "the project is open, and a web page of another origin sent the request (Origin, Sec-Fetch-Site). "
                "Configure callback_keys and tokens for the project, or send the request without a browser"
            )

    def before(self, handler: Handler, applies: Callable[[], bool]) -> Handler:
        """Return a handler that checks each request before ``handler`` runs, while ``applies()``."""

        async def checked(request: web.Request) -> web.StreamResponse:
            if applies():
                self.check(request)
            return await handler(request)

        return checked


@lru_cache(maxsize=64)
def is_local(host: str) -> bool:
    """Return whether a Host header, with any port, can only mean this machine."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = (match["ipv6"] or match["name"]).lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):  # https://www.rfc-editor.org/rfc/rfc6761#section-6.3
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False

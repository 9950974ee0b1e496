"""Authentication of callbacks: the key in the URL or a header, and the networks that a project allows."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from receiver.errors import ForbiddenError, NotFoundError, RateLimitedError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.web import BaseRequest

    from receiver.projects import Project, Projects
    from receiver.web.auth_failures import AuthFailures
    from receiver.web.browsers import BrowserGuard
    from receiver.web.callbacks import Endpoint
    from receiver.web.client_address import ClientAddresses

#: Authenticated callback URLs in the cache. A provider uses one URL; only holders of a key or secret can add others.
#: Those of open projects get the room that is left.
_MAX_CACHED: Final = 256
#: Keys of one URL that are compared; further ones are ignored.
_MAX_KEYS: Final = 4
#: The header that may have the key instead of the URL: proxies write URLs to their logs, and no headers.
KEY_HEADER: Final = "X-Callback-Key"
#: What is authenticated: a URL, key and all, or a URL with the key of the header.
_Known = str | tuple[str, str]


class CallbackAuth:
    """Finds the project of a callback and checks that the caller may post to it."""

    def __init__(
        self, projects: Projects, addresses: ClientAddresses, failures: AuthFailures, browsers: BrowserGuard
    ) -> None:
        self._projects = projects
        self._browsers = browsers
        self._addresses = addresses
        self._failures = failures
        self._authenticated: OrderedDict[_Known, Endpoint] = OrderedDict()

    def authenticate(self, request: BaseRequest, endpoint: Endpoint) -> Endpoint:
        """Check the client's address and, unless the provider signs, the key. The body has not been read yet.

        Return the endpoint of the key. Raises UnauthorizedError, RateLimitedError or ForbiddenError.
        """
        if endpoint.provider.signed:
            self.check_client(request, endpoint)
            return endpoint
        known, endpoint = self._check_key(request, endpoint)
        self.check_client(request, endpoint)
        self._cache(request, known, endpoint)
        return endpoint

    def remember(self, request: BaseRequest, endpoint: Endpoint) -> None:
        """Cache the URL of a callback whose signature was good. Before that check, strangers could fill the cache."""
        self._cache(request, request.raw_path, endpoint)

    def authenticated(self, url: str) -> Endpoint | None:
        """Return the endpoint of a URL whose path and key were authenticated before; None for any other URL.

        The client's address still has to be checked. Texts are compared only when their keyed 64-bit hashes are equal,
        so the time of the look-up reveals nothing about a guessed key.
        """
        return self._authenticated.get(url)

    def authenticated_by_header(self, request: BaseRequest) -> Endpoint | None:
        """Return the endpoint of a URL that was authenticated before with the key in this request's header."""
        key = request.headers.get(KEY_HEADER)
        return None if key is None else self._authenticated.get((request.raw_path, key))

    def reload(self) -> None:
        """Forget the authenticated URLs: the projects have been replaced, and with them their keys."""
        self._authenticated.clear()

    def check_client(self, request: BaseRequest, endpoint: Endpoint) -> None:
        """Raise ForbiddenError unless the project accepts callbacks from this client."""
        project = endpoint.project
        if endpoint.open:
            # Behind allowed networks, the provider uses the public name of the service: only the origin is checked.
            check = self._browsers.check_origin if project.allowed_networks else self._browsers.check
            check(request)
        if project.allowed_networks:
            self._check_address(request, project)

    def _check_address(self, request: BaseRequest, project: Project) -> None:
        address = self._addresses.of(request)
        if address is None:
            raise ForbiddenError("the client's address is unknown: a proxy sent an invalid X-Forwarded-For")
        if not any(address in network for network in project.allowed_networks):
            raise ForbiddenError("the client's address is in none of the project's allowed networks")

    def project(self, project_id: str | None) -> Project:
        """Return the project with an id, or the default project for None. Raises NotFoundError."""
        project = self._projects.default if project_id is None else self._projects.get(project_id)
        if project is None:
            raise NotFoundError(
                "no such project; the callback URL ends in the id of a configured project"
                if project_id is not None
                else "no default project; use /sms/callback/{project_id}, or mark one project default = true"
            )
        return project

    def client(self, request: BaseRequest) -> str:
        """Return the client's name for counts and logs."""
        return self._addresses.client(request)

    def count_failure(self, request: BaseRequest, credential: str) -> int | None:
        """Count a wrong credential of a client. Return None for 401, or the seconds to wait for 429."""
        return self._failures.count(self.client(request), credential)

    def _check_key(self, request: BaseRequest, endpoint: Endpoint) -> tuple[_Known, Endpoint]:
        """Return what is authenticated now, and the endpoint of the key.

        Raises UnauthorizedError or RateLimitedError.
        """
        project = endpoint.project
        url, key = request.raw_path, request.headers.get(KEY_HEADER)
        for place in _places(_keys_in_url(url), project.callback_keys):
            return url, endpoint.by_key[place]
        if key is not None:
            for place in _places([key.encode(errors="surrogateescape")], project.callback_keys):
                return (url, key), endpoint.by_key[place]
        if not project.callback_keys:
            if project.open_to_callbacks:
                return url, endpoint
            raise UnauthorizedError("the project accepts only signed callbacks; configure callback_keys for others")
        wait = self.count_failure(request, "callback_key")
        if wait is not None:
            raise RateLimitedError(wait, "the key is missing or wrong")
        raise UnauthorizedError(f"the key is missing or wrong; the callback URL ends in ?key=…, or {KEY_HEADER} has it")

    def _cache(self, request: BaseRequest, known: _Known, endpoint: Endpoint) -> None:
        if request.method != "POST":  # a GET carries its data in the URL, so no two are equal
            return
        if known not in self._authenticated and len(self._authenticated) >= _MAX_CACHED:
            if endpoint.open:
                return
            self._authenticated.popitem(last=False)
        self._authenticated[known] = endpoint


def _keys_in_url(url: str) -> list[bytes]:
    query = url.partition("?")[2]
    # A plus means a space in forms, and a plus in pasted Base64 keys: both readings are tried.
    return [*_keys_in(query), *_keys_in(query.replace("+", "%2B"))]


def _places(given: Sequence[bytes], keys: Sequence[str]) -> list[int]:
    """Return the places of the keys that were given. Every pair is compared, each in constant time."""
    equal = [[hmac.compare_digest(value, key.encode()) for value in given] for key in keys]
    return [place for place, matches in enumerate(equal) if any(matches)]


def _keys_in(query: str) -> list[bytes]:
    return [value.encode() for name, value in parse_qsl(query) if name == "key"][:_MAX_KEYS]

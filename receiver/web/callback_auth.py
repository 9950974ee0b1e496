"""Who may post callbacks: the key in the URL, and the networks that a project allows."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from receiver.errors import ForbiddenError, NotFoundError, RateLimitedError, UnauthorizedError

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

    from receiver.projects import Project, Projects
    from receiver.web.auth_failures import AuthFailures
    from receiver.web.browsers import BrowserGuard
    from receiver.web.callbacks import Endpoint
    from receiver.web.client_address import ClientAddresses

#: Callback URLs that are remembered as good. A provider has one URL; only holders of a key can add to this.
_REMEMBERED: Final = 256
#: Keys in one URL that are looked at.
_MAX_KEYS: Final = 4


class CallbackAuth:
    """Finds the project of a callback and checks that the caller may post to it."""

    def __init__(
        self, projects: Projects, addresses: ClientAddresses, failures: AuthFailures, browsers: BrowserGuard
    ) -> None:
        self._projects = projects
        self._browsers = browsers
        self._addresses = addresses
        self._failures = failures
        self._admitted: OrderedDict[str, Endpoint] = OrderedDict()

    def authenticate(self, request: BaseRequest, endpoint: Endpoint) -> None:
        """Check the key, unless the provider signs, and the address. What the body says is not known yet.

        Raises UnauthorizedError, RateLimitedError or ForbiddenError.
        """
        if not endpoint.provider.signed:
            self._check_key(request, endpoint.project)
        self.check_client(request, endpoint)
        if request.method == "POST":  # each GET has a URL of its own
            self._cache(request.raw_path, endpoint)

    def admitted(self, url: str) -> Endpoint | None:
        """Return whose callback URL this is, if it was authenticated before: path and key are right, whoever sends it.

        The look-up compares texts only when their 64-bit keyed hashes are equal, so its time tells nothing about a
        key that one guesses.
        """
        return self._admitted.get(url)

    def check_client(self, request: BaseRequest, endpoint: Endpoint) -> None:
        """Raise ForbiddenError unless the project takes callbacks from this client. Known URLs are checked as well."""
        project = endpoint.project
        if endpoint.open:
            # Behind a fence the provider uses the public name of the service.
            check = self._browsers.check_origin if project.allowed_networks else self._browsers.check
            check(request)
        if project.allowed_networks:
            self._check_address(request, project)

    def _check_address(self, request: BaseRequest, project: Project) -> None:
        address = self._addresses.of(request)
        if address is None:
            raise ForbiddenError("the caller's address cannot be told")
        if not any(address in network for network in project.allowed_networks):
            raise ForbiddenError("the caller's address is in none of the project's allowed networks")

    def project(self, project_id: str | None) -> Project:
        """Return the project of an id; None means the default one. Raises NotFoundError."""
        project = self._projects.default if project_id is None else self._projects.get(project_id)
        if project is None:
            raise NotFoundError(
                "no such project; the callback URL ends in the id of a configured project"
                if project_id is not None
                else "no default project; use /sms/callback/{project_id}, or mark one project default = true"
            )
        return project

    def count_failure(self, request: BaseRequest, credential: str) -> int | None:
        """Count a wrong credential of a client. Return None for 401, or for 429 the seconds until it may try again."""
        return self._failures.count(self._addresses.client(request), credential)

    def _check_key(self, request: BaseRequest, project: Project) -> None:
        if self._has_key(request.raw_path, project):
            return
        if not project.callback_keys:
            if project.open_to_callbacks:
                return
            raise UnauthorizedError("the project takes signed callbacks only; give it callback_keys for others")
        wait = self.count_failure(request, "callback_key")
        if wait is not None:
            raise RateLimitedError(wait, "the key is missing or wrong")
        raise UnauthorizedError("the key is missing or wrong; the callback URL ends in ?key=…")

    def _cache(self, url: str, endpoint: Endpoint) -> None:
        self._admitted[url] = endpoint
        if len(self._admitted) > _REMEMBERED:
            self._admitted.popitem(last=False)

    @staticmethod
    def _has_key(url: str, project: Project) -> bool:
        query = url.partition("?")[2]
        # A plus stands for a blank in forms, and for itself in keys that people paste (base64): it is read both ways.
        given = [*_keys_in(query), *_keys_in(query.replace("+", "%2B"))]
        # Every pair is compared, and each in constant time.
        matches = [hmac.compare_digest(one, key.encode()) for one in given for key in project.callback_keys]
        return any(matches)


def _keys_in(query: str) -> list[bytes]:
    return [value.encode() for name, value in parse_qsl(query) if name == "key"][:_MAX_KEYS]

"""Who may post callbacks: the key in the URL, and the networks that a project allows."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl

from receiver.errors import ForbiddenError, NotFoundError, UnauthorizedError

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

    from receiver.projects import Network, Project, Projects

#: Callback URLs that are remembered as good. A provider has one URL; only holders of a key can add to this.
_REMEMBERED: Final = 256
#: Keys in one URL that are looked at.
_MOST_KEYS: Final = 4


class Known(NamedTuple):
    """Whose callback URL it is."""

    provider: str
    project: Project


class Gate:
    """Finds the project of a callback and checks that the caller may post to it."""

    def __init__(self, projects: Projects, proxies: tuple[Network, ...]) -> None:
        """Take the projects, and the proxies whose X-Forwarded-For is believed."""
        self._projects = projects
        self._proxies = proxies
        self._known: OrderedDict[str, Known] = OrderedDict()

    def admit(self, request: BaseRequest, provider: str, project_id: str | None) -> Project:
        """Return the project that a request is for; ``project_id`` None means the default one.

        Raises NotFoundError, UnauthorizedError or ForbiddenError.
        """
        url = request.raw_path
        project = self._check(url, project_id)
        self.check_address(request, project)
        self._remember(url, Known(provider, project))
        return project

    def known(self, url: str) -> Known | None:
        """Return whose callback URL this is, if it was admitted before: path and key are right, whoever sends it.

        The look-up compares texts only when their 64-bit keyed hashes are equal, so its time tells nothing about a
        key that one guesses.
        """
        return self._known.get(url)

    def check_address(self, request: BaseRequest, project: Project) -> None:
        """Raise ForbiddenError unless the project allows the address that a request comes from."""
        if not project.allowed_networks:
            return
        try:
            address = ip_address(self._address(request))
        except ValueError:
            raise ForbiddenError("the caller's address cannot be told") from None
        if not any(address in network for network in project.allowed_networks):
            raise ForbiddenError("the caller's address is in none of the project's allowed networks")

    def _check(self, url: str, project_id: str | None) -> Project:
        project = self._projects.default if project_id is None else self._projects.get(project_id)
        if project is None:
            raise NotFoundError(
                "no such project; the callback URL ends in the id of a configured project"
                if project_id is not None
                else "no default project; use /sms/callback/{project_id}, or mark one project default = true"
            )
        if project.callback_keys and not self._has_key(url, project):
            raise UnauthorizedError("the key is missing or wrong; the callback URL ends in ?key=…")
        return project

    def _remember(self, url: str, known: Known) -> None:
        self._known[url] = known
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    @staticmethod
    def _has_key(url: str, project: Project) -> bool:
        query = url.partition("?")[2]
        # A plus stands for a blank in forms, and for itself in keys that people paste (base64): it is read both ways.
        given = [*_keys_in(query), *_keys_in(query.replace("+", "%2B"))]
        # Every pair is compared, and each in constant time.
        matches = [hmac.compare_digest(one, key.encode()) for one in given for key in project.callback_keys]
        return any(matches)

    def _address(self, request: BaseRequest) -> str:
        """Return the nearest address that is not one of our proxies, going back through X-Forwarded-For."""
        hops = [hop.strip() for line in request.headers.getall("X-Forwarded-For", []) for hop in line.split(",")]
        address = request.remote or ""
        while hops and self._is_proxy(address):
            address = hops.pop()
        return address

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)


def _keys_in(query: str) -> list[bytes]:
    return [value.encode() for name, value in parse_qsl(query) if name == "key"][:_MOST_KEYS]

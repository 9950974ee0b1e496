"""The two calls to IAM that SMN's SDKs make before their first request, answered from the configuration.

A token for a user and password, https://support.huaweicloud.com/api-iam/iam_30_0001.html, and the id of a project,
https://support.huaweicloud.com/api-iam/iam_06_0001.html. A project's name is its region, as it is with Huawei's own
default projects; its id is taken as its name too.
"""

from __future__ import annotations

import hmac
import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from marshmallow import fields, validate

from receiver.errors import GatewayError
from receiver.web.middleware import smn_response
from receiver.web.smn.request_schemas import BoundedList, Tolerant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp import web

    from receiver.projects import Project, Projects
    from receiver.web.smn.auth import Credentials
    from receiver.web.smn.parsing import SmnParser

#: Largest request for a token, in bytes: anybody may send one. SDKs send 300.
TOKEN_BODY: Final = 4 << 10
#: Methods of authentication that IAM knows: password, token, totp, assume_role and others; this many is ample.
_MAX_METHODS: Final = 10
_NAME: Final = validate.Length(0, 512)


class User(Tolerant):
    """A user of a project. The domain that SDKs send is of no meaning here."""

    name = fields.String(required=True, validate=_NAME)
    password = fields.String(required=True, validate=_NAME)


class Password(Tolerant):
    """Password authentication."""

    user = fields.Nested(User, required=True)


class Identity(Tolerant):
    """Who asks. ``password`` is the only method."""

    methods = BoundedList(fields.String(), high=_MAX_METHODS, metadata={"example": ["password"]})
    password = fields.Nested(Password, required=True)


class ProjectName(Tolerant):
    """A project by id, or by name: its region."""

    id = fields.String(validate=_NAME)
    name = fields.String(validate=_NAME, metadata={"example": "cn-north-4"})


class Scope(Tolerant):
    """What the token is for."""

    project = fields.Nested(ProjectName)


class Auth(Tolerant):
    """The two halves of a request for a token."""

    identity = fields.Nested(Identity, required=True)
    scope = fields.Nested(Scope)


class TokenRequest(Tolerant):
    """Body of ``POST /v3/auth/tokens``. Without a scope, the user's first project."""

    auth = fields.Nested(Auth, required=True)


class ProjectQuery(Tolerant):
    """Query of ``GET /v3/projects``."""

    name = fields.String(validate=_NAME, metadata={"description": "Name of the project: its region."})


class Iam:
    """Issues tokens and names projects."""

    def __init__(
        self, projects: Projects, credentials: Credentials, parser: SmnParser, clock: Callable[[], float] = time.time
    ) -> None:
        """Hand the collaborators over; the clock returns seconds since the epoch."""
        self._projects = projects
        self._credentials = credentials
        self._parser = parser
        self._clock = clock

    async def issue(self, request: web.Request) -> web.Response:
        """Answer ``POST /v3/auth/tokens`` with a token in ``X-Subject-Token``.

        Raises GatewayError, SmnError or ForbiddenError.
        """
        body: Any = await self._parser.parse(TokenRequest(), request, location="json")
        user = body["auth"]["identity"]["password"]["user"]
        project = _authenticated(_in_scope(self._projects.values(), body["auth"]), user)
        if project is None:
            reason = "the user name, the password or the project is wrong"
            raise self._credentials.failure(request, "password", reason)
        if project.open:
            self._credentials.browsers.check(request)
        token = await self._credentials.tokens.issue(project, user["name"], self._clock())
        about = {
            "expires_at": _utc(token.expires),
            "issued_at": _utc(token.issued),
            "methods": ["password"],
            "project": _named(project),
            "user": {"name": user["name"]},
        }
        response = smn_response({"token": about}, 201)
        response.headers["X-Subject-Token"] = token.text
        return response

    async def projects(self, request: web.Request) -> web.Response:
        """Answer ``GET /v3/projects?name=`` with the projects that the credentials open. Raises as ``issue`` does."""
        query: Any = await self._parser.parse(ProjectQuery(), request, location="query")
        open_ = [project for project in self._projects.values() if project.open]
        try:
            found = [caller.project for caller in await self._credentials.callers(request)]
        except GatewayError:
            if not any(_is_called(project, query) for project in open_):
                raise
            self._credentials.browsers.check(request)
            found = open_
        return smn_response(
            {"projects": [_named(project) for project in found if _is_called(project, query)], "links": {}}
        )


def _authenticated(projects: list[Project], user: dict[str, str]) -> Project | None:
    """Return the first project whose user it is. An open one lets everybody in, but shields no other."""
    closed = [project for project in projects if not project.open]
    if projects and not closed:
        return projects[0]
    given = sha256(user["password"].encode()).digest()
    good = [project for project in closed if _knows(project, user["name"], given)]
    return good[0] if good else None


def _knows(project: Project, name: str, given: bytes) -> bool:
    # A user that is not there is compared all the same: the time does not tell who is.
    known = project.users.get(name)
    same = hmac.compare_digest(given, sha256((known or "").encode()).digest())
    return same and known is not None


def _in_scope(projects: Iterable[Project], auth: dict[str, Any]) -> list[Project]:
    wanted = auth.get("scope", {}).get("project", {})
    return [project for project in projects if _is_called(project, wanted)]


def _is_called(project: Project, wanted: dict[str, str]) -> bool:
    name, id_ = wanted.get("name"), wanted.get("id")
    return (not name or name in (project.region, project.id)) and (not id_ or id_ == project.id)


def _named(project: Project) -> dict[str, str]:
    return {"id": project.id, "name": project.region}


def _utc(seconds: float) -> str:
    """Return ``2031-02-13T06:52:13.855000Z``: the Go SDK reads nothing but six fractional digits."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

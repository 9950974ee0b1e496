"""The two IAM calls that SMN's SDKs make before their first request, answered from the configuration.

One issues a token for a user and password, https://support.huaweicloud.com/api-iam/iam_30_0001.html. The other returns
the id of a project, https://support.huaweicloud.com/api-iam/iam_06_0001.html. A project's name is its region, as with
Huawei's own default projects. Its id is accepted as a name too.
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

#: Largest token request, in bytes: these requests are unauthenticated. SDKs send 300.
TOKEN_BODY: Final = 4 << 10
#: Authentication methods in one request. IAM has fewer: password, token, totp, assume_role and others.
_MAX_METHODS: Final = 10
_NAME: Final = validate.Length(0, 512)


class User(Tolerant):
    """A user of a project. The domain that SDKs send is ignored."""

    name = fields.String(required=True, validate=_NAME, metadata={"example": "anna"})
    password = fields.String(required=True, validate=_NAME, metadata={"example": "her-password"})


class Password(Tolerant):
    """Password authentication."""

    user = fields.Nested(User, required=True)


class Identity(Tolerant):
    """The caller's credentials. ``password`` is the only method."""

    methods = BoundedList(fields.String(), high=_MAX_METHODS, metadata={"example": ["password"]})
    password = fields.Nested(Password, required=True)


class ProjectName(Tolerant):
    """A project by id, or by name: its region."""

    id = fields.String(validate=_NAME, metadata={"example": "f96188c7ccaf4ffba0c9aa149ab2bd57"})
    name = fields.String(validate=_NAME, metadata={"example": "cn-north-4"})


class Scope(Tolerant):
    """The scope of the token."""

    project = fields.Nested(ProjectName)


class Auth(Tolerant):
    """Identity and scope of a token request."""

    identity = fields.Nested(Identity, required=True)
    scope = fields.Nested(Scope)


class TokenRequest(Tolerant):
    """Body of ``POST /v3/auth/tokens``. Without a scope it means the user's first project."""

    auth = fields.Nested(Auth, required=True)


class ProjectQuery(Tolerant):
    """Query of ``GET /v3/projects``."""

    name = fields.String(validate=_NAME, metadata={"description": "Name of the project: its region."})


class Iam:
    """Issues tokens and lists projects."""

    def __init__(
        self, projects: Projects, credentials: Credentials, parser: SmnParser, clock: Callable[[], float] = time.time
    ) -> None:
        """``clock`` returns seconds since the epoch."""
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
        description = {
            "expires_at": _utc(token.expires),
            "issued_at": _utc(token.issued),
            "methods": ["password"],
            "project": _named(project),
            "user": {"name": user["name"]},
        }
        response = smn_response({"token": description}, 201)
        response.headers["X-Subject-Token"] = token.text
        return response

    async def projects(self, request: web.Request) -> web.Response:
        """Answer ``GET /v3/projects?name=`` with the caller's projects. Raises as ``issue`` does."""
        query: Any = await self._parser.parse(ProjectQuery(), request, location="query")
        open_ = [project for project in self._projects.values() if project.open]
        try:
            found = [caller.project for caller in await self._credentials.callers(request)]
        except GatewayError:
            if not any(_has_name(project, query) for project in open_):
                raise
            self._credentials.browsers.check(request)
            found = open_
        return smn_response(
            {"projects": [_named(project) for project in found if _has_name(project, query)], "links": {}}
        )


def _authenticated(projects: list[Project], user: dict[str, str]) -> Project | None:
    """Return the first project with this user and password. An open project counts only if none is closed."""
    closed = [project for project in projects if not project.open]
    if projects and not closed:
        return projects[0]
    digest = sha256(user["password"].encode()).digest()
    matches = [project for project in closed if _has_user(project, user["name"], digest)]
    return matches[0] if matches else None


def _has_user(project: Project, name: str, digest: bytes) -> bool:
    # Unknown users are compared too, so that timing does not reveal which users exist.
    password = project.users.get(name)
    equal = hmac.compare_digest(digest, sha256((password or "").encode()).digest())
    return equal and password is not None


def _in_scope(projects: Iterable[Project], auth: dict[str, Any]) -> list[Project]:
    wanted = auth.get("scope", {}).get("project", {})
    return [project for project in projects if _has_name(project, wanted)]


def _has_name(project: Project, wanted: dict[str, str]) -> bool:
    name, id_ = wanted.get("name"), wanted.get("id")
    return (not name or name in (project.region, project.id)) and (not id_ or id_ == project.id)


def _named(project: Project) -> dict[str, str]:
    return {"id": project.id, "name": project.region}


def _utc(seconds: float) -> str:
    """Return ``2031-02-13T06:52:13.855000Z``: the Go SDK requires six fractional digits."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

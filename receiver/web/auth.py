"""Who may use the lookups: a static token in ``X-Auth-Token``. Errors are those of the gateway in front of SMN."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from receiver.errors import GatewayError, SmnError

if TYPE_CHECKING:
    from aiohttp import web

    from receiver.projects import Project, Projects


class Credentials:
    """Checks the credentials of a request against those of the projects."""

    def __init__(self, projects: Projects) -> None:
        """Take the projects with their secrets."""
        self._projects = projects

    async def check(self, request: web.Request, project_id: str) -> Project:
        """Return the project if the request may use it. Raises GatewayError (401) or SmnError (403)."""
        project = self._projects.get(project_id)
        if project is not None and project.open:
            return project
        token = request.headers.get("X-Auth-Token")
        if token is None:
            raise GatewayError("x-auth-token not found")
        owner = self._owner(token)
        if owner is None:
            raise GatewayError("decrypt token fail")
        if owner.id != project_id:
            raise SmnError(403, "SMN.0001", "No permission to request resources.")
        return owner

    def _owner(self, token: str) -> Project | None:
        given = token.encode()
        found = None
        for project in self._projects.values():
            for known in project.tokens:
                if hmac.compare_digest(given, known.encode()):
                    found = project
        return found

"""Puts the projects of a reloaded file in force, while the service runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.projects import Projects
    from receiver.route_overrides import RouteOverrides
    from receiver.routing import Routing


class Reloadable(Protocol):
    """A part that derives something from the projects."""

    def reload(self) -> None:
        """Drop what was derived from the projects before. It neither waits nor fails."""


class Reload:
    """Replaces all projects in one step of the event loop, so that no request meets a half of them.

    A callback in work ends with the project it began with.
    """

    def __init__(
        self, projects: Projects, routing: Routing, overrides: RouteOverrides, parts: Sequence[Reloadable]
    ) -> None:
        """``parts`` hold ``projects`` and ``routing``."""
        self._projects = projects
        self._routing = routing
        self._overrides = overrides
        self._parts = parts

    async def __call__(self, projects: Projects) -> None:
        """Put other projects in force, with the routes that were set at run time."""
        routing = await self._overrides.routing_of(projects.values())
        self._projects.replace(projects)
        self._routing.replace(routing)
        for part in self._parts:
            part.reload()

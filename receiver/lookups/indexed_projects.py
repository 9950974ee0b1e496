"""The projects that have reports or messages in the index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from receiver.redis_client import on

if TYPE_CHECKING:
    from receiver.redis_client import Client

KEY: Final = "lookups:projects"


class IndexedProjects:
    """A set in Redis, so that reports expire even after their project has left the configuration."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._noted: set[str] = set()

    async def note(self, project_id: str) -> None:
        """Add a project before anything is written for it: one command the first time, then none."""
        if project_id not in self._noted:
            await on(self._redis, KEY).sadd(KEY, project_id)
            self._noted.add(project_id)

    async def all(self) -> list[str]:
        """Return every project, including those that other processes noted."""
        if self._noted:  # add them again: Redis may have been flushed since
            await on(self._redis, KEY).sadd(KEY, *self._noted)
        members: set[Any] = await on(self._redis, KEY).smembers(KEY)
        return sorted(member.decode() for member in members)

"""The state of the service that viewers are shown. It is in memory: nothing is read for it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from receiver.events import EventType
from receiver.peers import unowned_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from receiver.routing import ProjectRoutes
    from receiver.streams.gauges import TopicGauges
    from receiver.web.ops import Ops

#: Groups shown, those with the largest backlog first.
_MAX_GROUPS: Final = 50


class ServiceState:
    """The workers of this service, and the groups as retention has measured them last, at most 2 s ago."""

    def __init__(self, ops: Ops, gauges: TopicGauges) -> None:
        self._ops = ops
        self._gauges = gauges
        self._version = version("sms-callback-receiver")

    def service(self) -> dict[str, Any]:
        """Return the state of the workers, and their spools. They serve all projects."""
        states = sorted(self._ops.states(), key=lambda state: state.worker)
        return {
            "version": self._version,
            "unowned_events": unowned_of(states).unowned_events,
            "workers": [
                {
                    "number": state.worker,
                    "route": state.route,
                    "stopping": state.stopping,
                    "spool_events": state.spool_events,
                    "spool_writable": state.spool_writable,
                    "spool_free_bytes": state.spool_free_bytes,
                }
                for state in states
            ],
        }

    def routes(self, routes: ProjectRoutes) -> list[dict[str, Any]]:
        """Return the topic of each event type of a project, and the entries in its stream."""
        topics = {**routes.routed(), EventType.REJECTED: routes.quarantine}
        return [
            {
                "type": event_type,
                "topic": topic,
                "origin": "fixed" if event_type is EventType.REJECTED else routes.origin(event_type),
                "entries": self._entries(topic),
            }
            for event_type, topic in topics.items()
        ]

    def groups(self, topics: Iterable[str]) -> dict[str, Any]:
        """Return the consumer groups of topics, those with the largest backlog, and the number of all."""
        found = [
            {"topic": topic, "group": name, **group._asdict()}
            for topic in topics
            if (figures := self._gauges.topics.get(topic)) is not None
            for name, group in figures.groups.items()
        ]
        found.sort(key=lambda group: (-group["oldest_seconds"], group["topic"], group["group"]))
        return {"count": len(found), "shown": found[:_MAX_GROUPS]}

    def _entries(self, topic: str) -> int | None:
        figures = self._gauges.topics.get(topic)
        return None if figures is None else figures.entries

"""The routing table: (project, event type) → topic URN.

A topic URN is ``urn:smn:{region}:{project_id}:{name}``, and also the key of the Redis stream. A partitioned topic has
further streams (``partitions``). The table starts with the configured routes. UpdateSmsEvent overrides them at run
time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from receiver.events import ROUTED, EventType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from receiver.events import Event
    from receiver.partitions import Partitions

PROJECT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
TOPIC_URN: Final = re.compile(
    r"urn:smn:(?P<region>[A-Za-z0-9][A-Za-z0-9_-]{0,63}):(?P<project>[A-Za-z0-9_-]{1,64})"
    r":(?P<name>[A-Za-z0-9][A-Za-z0-9_-]{0,254})"
)
QUARANTINE: Final = "quarantine"
_PARTS: Final = 5
#: The consumer group of the lookups on every event stream.
LOOKUPS_GROUP: Final = "receiver-lookups"

#: Default topic names.
DEFAULT_NAMES: Final[Mapping[EventType, str]] = {
    EventType.SUCCESS: "sms_success",
    EventType.FAIL: "sms_fail",
    EventType.REPLY: "sms_reply",
    EventType.SENT: "sms_sent",
}


def project_of(urn: str) -> str | None:
    """Return the project of a topic's URN, or of a stream whose key is made of one; None for another key."""
    parts = urn.split(":")
    return parts[3] if len(parts) == _PARTS and urn.startswith("urn:smn:") else None


def topic_problem(urn: str, project_id: str) -> str | None:
    """Return why a topic URN cannot be a route of a project, or None if it can.

    A route must stay in its project, and out of the quarantine.
    """
    match = TOPIC_URN.fullmatch(urn)
    if match is None:
        return "not a topic URN; write urn:smn:{region}:{project_id}:{name}"
    if match["project"] != project_id:
        return f"belongs to project {match['project']}; a route stays in its own project, {project_id}"
    if match["name"] == QUARANTINE:
        return "is the quarantine, which is only for rejected events; choose another name"
    return None


class RoutedProject(Protocol):
    """What routes depend on: a project of the configuration."""

    @property
    def id(self) -> str:
        """The id, a part of every topic."""

    @property
    def region(self) -> str:
        """The region of topics that no route names."""

    @property
    def routes(self) -> Mapping[str, str]:
        """The configured topics by event type."""

    @property
    def partitions(self) -> Mapping[str, Partitions]:
        """The partitions of topics by event type."""

    @property
    def publishes_pending(self) -> bool:
        """Whether states that are not final are published, as events of type SENT."""


class ProjectRoutes:
    """The routes of one project: configured ones, overridden by those set at run time.

    ``types`` are the event types that the project publishes. ``table`` has a topic for every type there is, so that no
    event is ever without one.
    """

    def __init__(self, project: RoutedProject) -> None:
        """Build the table; event types that the configuration does not name get the default topics."""
        pending = project.publishes_pending
        self.types = tuple(event_type for event_type in ROUTED if pending or event_type is not EventType.SENT)
        prefix = f"urn:smn:{project.region}:{project.id}:"
        self.defaults = {
            event_type: project.routes.get(event_type, prefix + DEFAULT_NAMES[event_type]) for event_type in ROUTED
        }
        self.quarantine = prefix + QUARANTINE
        self.configured = frozenset(project.routes)
        self.partitions = project.partitions
        self.overrides: dict[EventType, str] = {}
        #: Topics of current and former overrides. They may still hold unread events.
        self.former: frozenset[str] = frozenset()
        self.table: dict[EventType, str] = {}
        self.override({})

    def override(self, routes: Mapping[EventType, str]) -> None:
        """Replace all overrides. Event types without one use the configured or default topic."""
        self.overrides = dict(routes)
        self.table = {**self.defaults, **self.overrides, EventType.REJECTED: self.quarantine}

    def routed(self) -> dict[EventType, str]:
        """Return the topic of each event type that the project publishes."""
        return {event_type: self.table[event_type] for event_type in self.types}

    def stream_of(self, event: Event) -> str:
        """Return the stream of an event: its topic, or the partition of it."""
        topic = self.table[event.type]
        partitions = self.partitions.get(event.type)
        return topic if partitions is None else partitions.stream_of(topic, event)

    def streams(self, event_type: EventType) -> tuple[str, ...]:
        """Return the streams of an event type: its topic and, if that is partitioned, all partitions."""
        topic = self.table[event_type]
        partitions = self.partitions.get(event_type)
        return (topic,) if partitions is None else partitions.streams(topic)

    def routed_streams(self) -> dict[str, None]:
        """Return the streams of all event types that the project publishes, each once and in order."""
        return dict.fromkeys(stream for event_type in self.types for stream in self.streams(event_type))

    def topics(self) -> list[str]:
        """Return the streams that events are routed to, and former ones, each once."""
        return list(self.routed_streams() | dict.fromkeys(sorted(self.former)))

    def origin(self, event_type: EventType) -> str:
        """Return the origin of the current route: ``run time``, ``configuration`` or ``default``."""
        if event_type in self.overrides:
            return "run time"
        return "configuration" if event_type in self.configured else "default"


class Routing:
    """The routes of every project."""

    def __init__(self, projects: Iterable[RoutedProject]) -> None:
        """``projects`` are those of the configuration."""
        self.projects = {project.id: ProjectRoutes(project) for project in projects}

    def replace(self, other: Routing) -> None:
        """Hold the routes of another object from now on."""
        self.projects = other.projects

    def __getitem__(self, project_id: str) -> ProjectRoutes:
        """Return the routes of a project. Raises KeyError for an unknown one."""
        return self.projects[project_id]

    def routed_topics(self) -> set[str]:
        """Return all streams that events and rejected items are routed to now."""
        return {urn for routes in self.projects.values() for urn in (*routes.routed_streams(), routes.quarantine)}

    def event_topics(self) -> list[str]:
        """Return all streams that may hold events, without the quarantines."""
        return [urn for routes in self.projects.values() for urn in routes.topics()]

    def topics(self, groups: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Return all current and former streams, each with the consumer groups that it must have.

        ``groups`` has the groups by project. Former topics and quarantines need none.
        """
        topics: dict[str, tuple[str, ...]] = {}
        for project_id, routes in self.projects.items():
            topics |= dict.fromkeys(routes.topics(), ())
            topics |= dict.fromkeys(routes.routed_streams(), groups.get(project_id, ()))
            topics[routes.quarantine] = ()
        return topics

"""The streams that a command works on: those of ``--topic``, or all of a project, or all."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from receiver.cli.connections import connected, load_overrides
from receiver.cli.options import chosen_projects
from receiver.routing import Routing
from receiver.streams.dead_letters import dead_letters_of
from receiver.streams.group_info import groups_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from receiver.redis_client import Client
    from receiver.settings import Settings


def streams_of(routing: Routing) -> list[str]:
    """Return the event streams of all projects, partitions included, each with its dead letters behind it."""
    return [key for topic in routing.event_topics() for key in (topic, dead_letters_of(topic))]


def chosen_streams(routing: Routing, names: tuple[str, ...]) -> list[str]:
    """Return the streams with these names, or all event streams without names. Raises click.BadParameter.

    A name stands for the topic in every project of ``routing``, with its partitions.
    """
    if not names:
        return routing.event_topics()
    known: dict[str, list[str]] = {}
    for stream in routing.event_topics():
        topic = stream.partition(".")[0]  # of a partition; a topic's name has no dot
        known.setdefault(topic, []).append(stream)
        known.setdefault(dead_letters_of(topic), []).append(dead_letters_of(stream))
    chosen: dict[str, None] = {}
    for name in names:
        found = [key for topic, keys in known.items() if name in (topic, topic.rpartition(":")[2]) for key in keys]
        found += [key for keys in known.values() for key in keys if name == key]
        if not found:
            listed = ", ".join(topic for topic in known if not topic.endswith(dead_letters_of("")))
            raise click.BadParameter(f"there is no topic {name!r}; choose one of: {listed}.", param_hint="--topic")
        chosen |= dict.fromkeys(found)
    return list(chosen)


@asynccontextmanager
async def streams_connected(settings: Settings, project: str | None) -> AsyncIterator[tuple[Client, Routing]]:
    """Yield a client, and the routes in force of the chosen projects."""
    routing = Routing(chosen_projects(settings.projects, project))
    async with connected(settings) as client:
        await load_overrides(client, routing)
        yield client, routing


async def having_group(client: Client, topics: list[str], group: str) -> list[str]:
    """Return the topics that have a consumer group of this name."""
    return [topic for topic in topics if any(one.name == group.encode() for one in await groups_of(client, topic))]

"""``receiver groups create``: a consumer group that begins in the past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from redis.exceptions import ResponseError

from receiver.cli.connections import run
from receiver.cli.environment import Environment, with_environment
from receiver.cli.options import FOREVER, Ago, json_option, project_option, yes_option
from receiver.cli.output import echo_json, place
from receiver.cli.topics import chosen_streams, having_group, streams_connected
from receiver.errors import ReceiverError
from receiver.events import utc
from receiver.redis_client import on
from receiver.routing import project_of
from receiver.streams.entry_ids import id_parts, now_ms

if TYPE_CHECKING:
    from receiver.redis_client import Client
    from receiver.settings import Settings

_LAST_SEQUENCE: Final = 2**64 - 1


@click.command(
    epilog="\b\nExamples:\n"
    "  receiver groups create crm --since 24h --topic sms_reply     replies, from yesterday on\n"
    "  receiver groups create crm --from-start --all-topics\n"
    "  receiver groups create crm --since 2h --topic sms_reply --reset  it reads two hours again",
)
@click.argument("group")
@click.option("--since", type=Ago(), metavar="TIME", help="Begin with the events of this long ago: 90s, 10m, 2h, 7d.")
@click.option("--from-start", is_flag=True, help="Begin with the oldest event in the stream.")
@click.option("--from-now", is_flag=True, help="Begin with the next event.")
@click.option("--reset", is_flag=True, help="Move a group that is there to this place. Pending entries stay pending.")
@project_option
@click.option(
    "--topic", "names", metavar="NAME", multiple=True, help="A topic's URN, or its name such as sms_reply; repeatable."
)
@click.option("--all-topics", is_flag=True, help="Every topic of every project, or of that of --project.")
@yes_option
@json_option
@with_environment
def create(  # noqa: PLR0913 a parameter for each option
    environment: Environment,
    *,
    group: str,
    since: float | None,
    from_start: bool,
    from_now: bool,
    reset: bool,
    project: str | None,
    names: tuple[str, ...],
    all_topics: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Create a consumer group on topics, at a place in the past.

    Name the topics that its consumers read: a topic is trimmed only as far as all its groups have come.

    The time is that of Redis' clock, which made the ids of the entries. A group that is there is not touched without
    --reset. Groups of new topics are created by consumer_groups in the configuration.
    """
    if [since is not None, from_start, from_now].count(True) != 1:
        raise click.UsageError("give one of --since, --from-start and --from-now.")
    if bool(names) == all_topics:
        raise click.UsageError("name each topic that the group reads with --topic, or give --all-topics.")
    age = None if from_now else (FOREVER if from_start else since)
    settings = environment.settings()
    there = run(_having(settings, project, names, group))
    if there and not reset:
        raise ReceiverError(
            f"the group {group} is there already, on {', '.join(there)}. --reset moves it: its consumers then read "
            "entries again, or leave some out."
        )
    if there and not yes:
        click.confirm(
            f"Move the group {group} of {len(there)} topics? Its consumers read entries again, or leave some out.",
            abort=True,
            err=True,
        )
    for topic, first in run(_create(settings, project, names, group, age)).items():
        if as_json:
            echo_json(place(topic) | {"group": group, "entry_id": first})
        else:
            click.echo(f"{topic}  {_begins(first, age)}")


async def _having(settings: Settings, project: str | None, names: tuple[str, ...], group: str) -> list[str]:
    async with streams_connected(settings, project) as (client, routing):
        streams = chosen_streams(routing, names)
        owners = sorted({str(project_of(stream)) for stream in streams})
        if any(":" not in name for name in names) and len(owners) > 1:  # a group that nobody reads stops the trimming
            raise click.UsageError(f"the projects {', '.join(owners)} have this topic: choose one with --project.")
        return await having_group(client, streams, group)


async def _create(
    settings: Settings, project: str | None, names: tuple[str, ...], group: str, age: float | None
) -> dict[str, str | None]:
    """Create the group, or move it. Return for each stream the entry that it begins with, None if that is to come."""
    places = {}
    async with streams_connected(settings, project) as (client, routing):
        for topic in chosen_streams(routing, names):
            if topic in routing.routed_topics() or await on(client, topic).exists(topic):
                places[topic] = await _place_group(client, topic, group, age)
    return places


async def _place_group(client: Client, topic: str, group: str, age: float | None) -> str | None:
    start = "$" if age is None else _before(await now_ms(client, topic) - int(age * 1000))
    try:
        await on(client, topic).xgroup_create(topic, group, id=start, mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
        await on(client, topic).xgroup_setid(topic, group, start)
    if age is None:
        return None
    first: Any = await on(client, topic).xrange(topic, f"({start}", "+", count=1)
    return first[0][0].decode() if first else None


def _begins(first: str | None, age: float | None) -> str:
    if first is not None:
        return f"begins with {first} of {utc(id_parts(first)[0] // 1000)}"
    return "begins with the next event" + ("" if age is None else ": there is none since then")


def _before(milliseconds: int) -> str:
    """Return the id that comes just before the first one of a millisecond: a group begins behind its id."""
    return f"{milliseconds - 1}-{_LAST_SEQUENCE}" if milliseconds > 0 else "0"

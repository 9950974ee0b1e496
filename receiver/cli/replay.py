"""``receiver replay``: past events again."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from receiver import log, metrics
from receiver.cli.connections import publishing, run, with_window_in_force
from receiver.cli.environment import Environment, with_environment
from receiver.cli.formatting import counted
from receiver.cli.options import json_option, project_option, yes_option
from receiver.cli.output import console, echo_json, place
from receiver.cli.progress import bar
from receiver.cli.stream_position import NOW, Position, PositionType
from receiver.cli.topics import chosen_streams, streams_connected
from receiver.errors import ReceiverError
from receiver.events import REPLAY_OF, utc
from receiver.route_overrides import RouteOverrides
from receiver.routing import TOPIC_URN, project_of, topic_problem
from receiver.search.streams import count
from receiver.streams.dead_letters import dead_letters_of, topic_of
from receiver.streams.entry_ids import now_ms
from receiver.streams.replay import Pace, Range, publish

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from receiver.redis_client import Client
    from receiver.routing import Routing
    from receiver.settings import Settings

#: Events a second by default: consumers get them beside today's.
_RATE: Final = 1000.0
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _name(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _NAME.fullmatch(value):
        raise click.BadParameter("write up to 64 letters, digits, dots, dashes and underscores.")
    return value


@click.command(
    epilog="\b\nExamples:\n"
    "  receiver replay --topic sms_success --from 24h --dry-run         how many events there are\n"
    "  receiver replay --topic sms_success --from 2026-11-25T08:00 --to 2026-11-25T09:30\n"
    "  receiver replay --topic sms_fail --from 1795258820220-0 --to 1795258820220-0   one event\n"
    "  receiver replay --topic sms_reply --from 7d --to-topic sms_reply_test --rate 50\n"
    "  receiver replay --topic sms_success_dead --from start            dead letters go back",
)
@click.option(
    "--topic", "names", required=True, multiple=True, metavar="NAME", help="A topic's URN or name; repeatable."
)
@click.option(
    "--from",
    "first",
    type=PositionType(),
    required=True,
    metavar="TIME",
    help="24h (ago), 2026-11-25T08:00 (local time, or with a zone), an entry's id, or start.",
)
@click.option("--to", "last", type=PositionType(), default=NOW, metavar="TIME", help="The same. [default: now]")
@click.option(
    "--to-topic", metavar="NAME", help="Another topic, a new one too. [default: the same; of dead letters, their own]"
)
@click.option(
    "--name",
    callback=_name,
    metavar="NAME",
    help="The name of the replay. Under the same name no event is added twice. [default: the day, in UTC]",
)
@click.option("--rate", type=click.FloatRange(0.1), default=_RATE, show_default=True, help="Events a second.")
@project_option
@click.option("--dry-run", is_flag=True, help="Only count the events.")
@yes_option
@json_option
@with_environment
def replay(  # noqa: PLR0913 a parameter for each option
    environment: Environment,
    *,
    names: tuple[str, ...],
    first: Position,
    last: Position,
    to_topic: str | None,
    name: str | None,
    rate: float,
    project: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Publish past events again, as new events.

    Every consumer group of the topic gets them. An event that is published again has a new id; `replayof` is the id of
    the original, `replayname` the name of the replay. Replays are not replayed. Dead letters (--topic NAME_dead) go
    back to their topic under their own ids, by which groups that have handled them recognise them, and leave the dead
    letters; one that fails again may go back again. For a single new consumer `receiver groups create --since` does.

    After an interruption repeat the command under the same name, within the dedupe window of the service on this Redis:
    the events that are there already are not added again.
    """
    selection = _Selection(names, first, last, to_topic, name)
    run(_replay(environment.settings(), project, selection, Pace(rate), dry_run=dry_run, yes=yes, as_json=as_json))


class _Selection(NamedTuple):
    """Which events to publish again, and where."""

    names: tuple[str, ...]
    first: Position
    last: Position
    to_topic: str | None
    name: str | None


async def _replay(  # noqa: PLR0913 the options
    settings: Settings,
    project: str | None,
    selection: _Selection,
    pace: Pace,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    async with streams_connected(settings, project) as (client, routing):
        topics = chosen_streams(routing, selection.names)
        now = await now_ms(client, topics[0])
        name = selection.name or utc(now // 1000)[: len("2026-11-26")]
        target = None if selection.to_topic is None else _target(routing, selection.names, selection.to_topic)
        ends = selection.first.first(now), selection.last.last(now)
        counts = {
            part: await _count(client, part)
            for part in [Range(each, *ends, target or topic_of(each)) for each in topics]
        }
        for part, events in counts.items():
            click.echo(f"{part.topic}  {counted(events, 'event')} → {part.target}", err=True)
        total = sum(counts.values())
        if dry_run:
            _print(counts, name, dry_run=True, as_json=as_json)
            return
        if not total:
            raise ReceiverError("there is no event in this range: correct --from and --to")
        if not yes:
            click.confirm(f"Publish {counted(total, 'event')} again, as replay {name}?", abort=True, err=True)
        if target is not None and target not in routing.event_topics():
            await _keep(client, routing, target)
        await _publish(settings, client, counts, name, pace, as_json=as_json)


async def _publish(  # noqa: PLR0913 what to publish, and how
    settings: Settings, client: Client, counts: Mapping[Range, int], name: str, pace: Pace, *, as_json: bool
) -> None:
    added, finished = Counter[Range](), False
    try:
        async with publishing(await with_window_in_force(client, settings)) as primaries:
            with bar(console(stderr=True)) as progress:
                task = progress.add_task("replaying", total=sum(counts.values()))
                for part in counts:
                    with _counting(part, added):
                        async for done in publish(client, part, name, pace, primaries.drain):
                            progress.advance(task, done)
        finished = True
    finally:
        _print(added, name, dry_run=False, as_json=as_json)
        if not finished:
            again = f"Repeat the command with --name {name} to go on: no event is added twice."
            click.echo(f"receiver: the replay is not complete. {again}", err=True)


async def _count(client: Client, part: Range) -> int:
    """Return how many events there are to publish again."""
    entries, replays = await count(client, part.topic, part.first, part.last, REPLAY_OF)
    return entries if part.of_dead_letters else entries - replays


def _target(routing: Routing, names: tuple[str, ...], to_topic: str) -> str:
    """Return the topic of ``--to-topic``: a URN, or a name in the project of the events."""
    projects = {str(project_of(topic)) for topic in chosen_streams(routing, names)}
    if len(projects) > 1:
        raise click.UsageError(f"--to-topic goes with the events of one project, not of {', '.join(sorted(projects))}.")
    project_id = projects.pop()
    prefix = routing[project_id].quarantine.rpartition(":")[0]
    urn = to_topic if TOPIC_URN.fullmatch(to_topic) else f"{prefix}:{to_topic}"
    problem = topic_problem(urn, project_id)
    if problem is None and urn.endswith(dead_letters_of("")):
        problem = "is for dead letters; choose another name"
    if problem is not None:
        raise click.BadParameter(f"{urn}: {problem}.", param_hint="--to-topic")
    return urn


async def _keep(client: Client, routing: Routing, target: str) -> None:
    """Let the service trim a topic to which no event is routed."""
    await RouteOverrides(client, routing, log.configure("warning")).keep(str(project_of(target)), target)


def _print(counts: Mapping[Range, int], name: str, *, dry_run: bool, as_json: bool) -> None:
    if not as_json:
        click.echo(f"{counted(sum(counts.values()), 'event')}{'' if dry_run else ' added'}.")
        return
    for part, events in counts.items():
        row = place(part.topic) | {"target_topic_urn": part.target, "replayname": name}
        echo_json(row | {"events": events, "dry_run": dry_run})


@contextmanager
def _counting(part: Range, added: Counter[Range]) -> Iterator[None]:
    """Count the events that are added inside the ``with`` block, also if it is interrupted."""
    before = _added()
    try:
        yield
    finally:
        added[part] = _added() - before


def _added() -> int:
    return int(metrics.OURS.get_sample_value("receiver_stream_entries_added_total") or 0)

"""``receiver dead-letters``: what no consumer of a group has finished, and how to get rid of it."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
import msgspec
from rich.text import Text

from receiver.cli.connections import run
from receiver.cli.environment import Environment, with_environment
from receiver.cli.formatting import counted, moment, safe
from receiver.cli.lazy_group import OrderedGroup
from receiver.cli.options import (
    chosen_projects,
    entry_ids,
    json_option,
    of_project,
    project_option,
    topic_option,
    yes_option,
)
from receiver.cli.output import console, echo_json, place, print_table, table
from receiver.cli.topics import chosen_streams, streams_connected
from receiver.errors import ReceiverError
from receiver.events import utc
from receiver.redis_client import on
from receiver.streams.dead_letters import UNKNOWN, DeadLetter, dead_letters_of, topic_of
from receiver.streams.entry_ids import id_parts
from receiver.streams.paging import pages
from receiver.streams.stored_event import decode_event

if TYPE_CHECKING:
    from receiver.redis_client import Client
    from receiver.routing import Routing
    from receiver.settings import Settings

#: Entries removed by one command.
_PAGE: Final = 1000


class _Letter(NamedTuple):
    """A dead letter: its stream, its id there, where it comes from, and its event."""

    stream: str
    id: str
    origin: DeadLetter
    data: bytes


@click.group(
    "dead-letters",
    cls=OrderedGroup,
    epilog="\b\nExamples:\n"
    "  receiver dead-letters list                            the newest, with their reasons\n"
    "  receiver replay --topic sms_success_dead --from start  back to their topic, once the cause is fixed\n"
    "  receiver dead-letters drop --topic sms_success --all  delete those of a topic",
)
def dead_letters() -> None:
    """Show and delete entries that were put aside, because no consumer of a group finished them.

    `receiver groups dead-letter` and consumers put them aside. They stay until they are given back or deleted: the
    service trims them at RECEIVER_MAX_ENTRIES of a topic alone, the oldest first.
    """


@dead_letters.command("list")
@project_option
@topic_option
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most this many, newest first.")
@json_option
@with_environment
def list_(environment: Environment, *, project: str | None, names: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List them, newest first."""
    settings = environment.settings()
    letters, total = run(_newest(settings, project, names, limit))
    if as_json:
        for letter in letters:
            echo_json(_as_json(letter))
    elif not letters:
        projects = [each.id for each in chosen_projects(settings.projects, project)]
        click.echo(f"There are no dead letters{of_project(projects)}.")
    else:
        _print(letters, total)


@dead_letters.command()
@entry_ids
@click.option("--all", "every", is_flag=True, help="All of the topics that --topic names.")
@project_option
@topic_option
@yes_option
@json_option
@with_environment
def drop(  # noqa: PLR0913 a parameter for each option
    environment: Environment,
    *,
    ids: tuple[str, ...],
    every: bool,
    project: str | None,
    names: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Delete some for good. An id is that of the entry in the stream of dead letters, as `list` shows it."""
    if bool(ids) == every:
        raise click.UsageError("give the ids of some dead letters, or --all.")
    if every and not names:
        raise click.UsageError("--all needs --topic: the dead letters of one topic say nothing about those of another.")
    settings = environment.settings()
    count = run(_count(settings, project, names)) if every else len(set(ids))
    if not count:
        raise ReceiverError("there are no dead letters of this topic")
    if not yes:
        click.confirm(f"Delete {counted(count, 'dead letter')} for good?", abort=True, err=True)
    by_stream = run(_drop(settings, project, names, ids))
    dropped = by_stream.total()
    if as_json:
        for stream, entries in (+by_stream).items():
            echo_json(place(stream) | {"entries": entries})
    else:
        click.echo(f"{counted(dropped, 'dead letter')} deleted.")
    if ids and dropped < count:
        click.echo("receiver: the others are not there: see `receiver dead-letters list`", err=True)
        sys.exit(1)


def _streams(routing: Routing, names: tuple[str, ...]) -> list[str]:
    """Return the streams of dead letters of topics. The names may be those of either."""
    return list(dict.fromkeys(dead_letters_of(topic_of(stream)) for stream in chosen_streams(routing, names)))


async def _newest(
    settings: Settings, project: str | None, names: tuple[str, ...], limit: int
) -> tuple[list[_Letter], int]:
    letters: list[_Letter] = []
    total = 0
    async with streams_connected(settings, project) as (client, routing):
        for stream in _streams(routing, names):
            total += await on(client, stream).xlen(stream)
            found: Any = await on(client, stream).xrevrange(stream, count=limit)
            for id_, fields in found:
                letters.append(_Letter(stream, id_.decode(), DeadLetter.of(fields), fields.get(b"data", b"")))
    letters.sort(key=lambda letter: id_parts(letter.id), reverse=True)
    return letters[:limit], total


async def _count(settings: Settings, project: str | None, names: tuple[str, ...]) -> int:
    async with streams_connected(settings, project) as (client, routing):
        return sum([await on(client, stream).xlen(stream) for stream in _streams(routing, names)])


async def _drop(settings: Settings, project: str | None, names: tuple[str, ...], ids: tuple[str, ...]) -> Counter[str]:
    """Delete the letters with these ids, or all without ids. Return how many were in each stream."""
    async with streams_connected(settings, project) as (client, routing):
        streams = _streams(routing, names)
        if ids:
            return Counter({stream: int(await on(client, stream).xdel(stream, *ids)) for stream in streams})
        return Counter({stream: await _empty(client, stream) for stream in streams})


async def _empty(client: Client, stream: str) -> int:
    """Delete what is in a stream now. The key stays, with the groups that consumers of dead letters have on it."""
    deleted = 0
    async for page in pages(client, stream, _PAGE):
        deleted += await on(client, stream).xdel(stream, *(id_ for id_, _ in page))
    return deleted


def _as_json(letter: _Letter) -> dict[str, Any]:
    """Return a letter as JSON values, null for what its fields do not say."""
    reason, topic, entry, group, deliveries = (None if value == UNKNOWN else value for value in letter.origin)
    return place(letter.stream, letter.id) | {
        "original_topic_urn": topic,
        "original_entry_id": entry,
        "group": group,
        "deliveries": int(deliveries) if deliveries is not None and deliveries.isdecimal() else None,
        "reason": reason,
        "event": msgspec.Raw(letter.data if decode_event(letter.data) else b"null"),
    }


def _print(letters: list[_Letter], total: int) -> None:
    shown = table(
        "topic", "entry", "put aside", "group", "deliveries", "reason", ids=("topic", "entry", "put aside", "group")
    )
    for stream, id_, origin, _ in letters:  # only the reason is shortened
        at = moment(utc(id_parts(id_)[0] // 1000), date=True)
        reason = Text(safe(origin.reason), no_wrap=True, overflow="ellipsis")
        shown.add_row(topic_of(stream), id_, at, Text(safe(origin.group)), safe(origin.deliveries), reason)
    print_table(shown)
    if total > len(letters):
        console().print(f"{len(letters)} of {total:,}; --limit shows more.", style="dim")

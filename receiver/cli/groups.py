"""``receiver groups``: the consumer groups, what they have not done, and how to help a stuck one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import click
from redis.exceptions import ResponseError

from receiver.cli.connections import run
from receiver.cli.environment import Environment, with_environment
from receiver.cli.formatting import counted, safe
from receiver.cli.groups_create import create
from receiver.cli.groups_view import (
    DEAD_LETTER_IDLE,
    backlogs_as_json,
    print_backlogs,
    print_counts,
    print_counts_as_json,
)
from receiver.cli.lazy_group import OrderedGroup
from receiver.cli.options import Ago, chosen_projects, json_option, of_project, project_option, topic_option, yes_option
from receiver.cli.output import console, echo_json
from receiver.cli.progress import bar
from receiver.cli.topics import chosen_streams, having_group, streams_connected, streams_of
from receiver.errors import ReceiverError
from receiver.redis_client import on
from receiver.streams.backlog import backlogs
from receiver.streams.dead_letters import DeadLetters, StuckFor, dead_letters_of, stuck
from receiver.units import duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from receiver.redis_client import Client
    from receiver.settings import Settings
    from receiver.streams.backlog import Backlog
    from receiver.streams.group_info import PendingEntry

F = TypeVar("F", bound="Callable[..., Any]")
_group = click.argument("group")
_dry_run = click.option("--dry-run", is_flag=True, help="Only count the entries.")


def _min_idle(default: str) -> Callable[[F], F]:
    text = f"Only entries that were not delivered for this long. [default: {default}]"
    return click.option("--min-idle", type=Ago(), default=default, metavar="TIME", help=text)


@click.group(
    cls=OrderedGroup,
    invoke_without_command=True,
    epilog="\b\nExamples:\n"
    "  receiver groups                                        lag, pending entries, consumers\n"
    "  receiver groups create crm --since 24h --topic sms_reply  a new consumer begins with yesterday\n"
    "  receiver groups claim billing --from host-2 --to host-1  entries of a consumer that died\n"
    "  receiver groups dead-letter billing --deliveries 5     entries that no consumer finishes",
)
@project_option
@topic_option
@json_option
@with_environment
@click.pass_context
def groups(
    context: click.Context, environment: Environment, *, project: str | None, names: tuple[str, ...], as_json: bool
) -> None:
    """Show the consumer groups of the streams, and help stuck ones.

    A group's lag are the entries that it has not read; pending ones were read and not acknowledged. A consumer's idle
    time counts from its last call. Entries older than RECEIVER_RETENTION are trimmed once every group has acknowledged
    them: the table is followed by what holds that back.
    """
    if context.invoked_subcommand is None:
        run(_list(environment.settings(), project, names, as_json=as_json))
    elif project is not None or names or as_json:
        raise click.UsageError(f"write the options behind {context.invoked_subcommand}.")


@groups.command(
    epilog="\b\nExample:\n  receiver groups claim billing --from host-2 --to host-1 --min-idle 10m",
)
@_group
@click.option("--to", "target", required=True, metavar="CONSUMER", help="The consumer that gets the entries.")
@click.option("--from", "source", metavar="CONSUMER", help="Only entries of this consumer. [default: of any other]")
@_min_idle("5m")
@project_option
@topic_option
@_dry_run
@json_option
@with_environment
def claim(  # noqa: PLR0913 a parameter for each option
    environment: Environment,
    *,
    group: str,
    target: str,
    source: str | None,
    min_idle: float,
    project: str | None,
    names: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Give entries that are stuck at a consumer to another one.

    The other consumer finds them when it reads its pending entries (XREADGROUP with id 0), as the programs in
    deploy/consumers do when they start. The count of deliveries stays as it is.
    """
    limits = StuckFor(int(min_idle * 1000), consumer=source)

    async def work(client: Client, topic: str, entries: list[PendingEntry]) -> int:
        ids = [entry.entry_id for entry in entries if entry.consumer != target]
        if dry_run or not ids:
            return len(ids)
        claimed: Any = await on(client, topic).xclaim(topic, group, target, limits.idle_ms, ids, justid=True)  # type: ignore[arg-type]
        return len(claimed)

    settings = environment.settings()
    moved = run(_each(settings, project, names, group, limits, work))
    if not moved.total():
        _tell_of_younger(settings, project, names, group, limits)
    if as_json:
        print_counts_as_json(moved, group=group, consumer=target, dry_run=dry_run)
        return
    print_counts(moved, f"{'to give' if dry_run else 'given'} to {safe(target)}")
    if moved.total() and not dry_run:
        click.echo(
            f"{safe(target)} finds them among its pending entries (XREADGROUP with id 0). If it reads those at its "
            "start alone, restart it."
        )


@groups.command(
    "dead-letter",
    epilog="\b\nExamples:\n"
    "  receiver groups dead-letter billing --dry-run\n"
    "  receiver groups dead-letter billing --topic sms_success --reason 'no such order'\n"
    "  receiver replay --topic sms_success_dead --from start   once the cause is fixed",
)
@_group
@click.option(
    "--deliveries",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    metavar="N",
    help="Only entries that were delivered so often, or more often.",
)
@click.option("--reason", metavar="TEXT", help="Why; it is kept with each entry. [default: delivered N times]")
@_min_idle(f"{DEAD_LETTER_IDLE}s")
@project_option
@topic_option
@_dry_run
@yes_option
@json_option
@with_environment
def dead_letter(  # noqa: PLR0913 a parameter for each option
    environment: Environment,
    *,
    group: str,
    deliveries: int,
    reason: str | None,
    min_idle: float,
    project: str | None,
    names: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Move entries that no consumer finishes to the dead letters of their topic.

    The stream TOPIC_dead has each entry as it was, with the fields reason, topic, entry, group, consumer and deliveries
    beside it; `receiver dead-letters list` shows them. For the group the entry is then acknowledged, so that it holds
    back neither the group nor the trimming; other groups are not affected. Repeat the command after an interruption: no
    entry is moved twice.
    """
    settings = environment.settings()
    limits = StuckFor(int(min_idle * 1000), deliveries)

    async def move(client: Client, topic: str, entries: list[PendingEntry]) -> int:
        words = reason or f"delivered {deliveries} times or more, and no consumer finished it"
        dead = DeadLetters(client, topic, group, idle_ms=limits.idle_ms, reason=words)
        moved = [await dead.put_aside(entry) for entry in entries]
        await dead.close()
        return sum(moved)

    found = run(_each(settings, project, names, group, limits, _count))
    if not found.total():
        _tell_of_younger(settings, project, names, group, limits)
    if not (dry_run or yes) and found.total():
        click.confirm(
            f"Move {counted(found.total(), 'entry', 'entries')} of group {group} to the dead letters?",
            abort=True,
            err=True,
        )
    if found.total() and not dry_run:
        found = run(_each(settings, project, names, group, limits, move))
    if as_json:
        print_counts_as_json(found, group=group, dry_run=dry_run)
    else:
        print_counts(found, "to put aside" if dry_run else "put aside")


async def _list(settings: Settings, project: str | None, names: tuple[str, ...], *, as_json: bool) -> None:
    found: list[Backlog] = []
    dead: dict[str, int] = {}
    wrong: list[str] = []
    projects = [each.id for each in chosen_projects(settings.projects, project)]
    async with streams_connected(settings, project) as (client, routing):
        for topic in chosen_streams(routing, names) if names else streams_of(routing):
            try:
                found += await backlogs(client, topic)
            except ResponseError as error:
                if "WRONGTYPE" not in str(error):
                    raise
                wrong.append(topic)
                continue
            if topic.endswith(dead_letters_of("")):
                dead[topic] = await on(client, topic).xlen(topic)
    if as_json:
        for row in backlogs_as_json(found, settings.retention):
            echo_json(row)
    else:
        print_backlogs(found, dead, settings.retention, of_project(projects))
    if wrong:
        raise ReceiverError(f"the key of {', '.join(wrong)} holds no stream: `receiver check` has the fix")


async def _count(_client: Client, _topic: str, entries: list[PendingEntry]) -> int:
    return len(entries)


def _tell_of_younger(
    settings: Settings, project: str | None, names: tuple[str, ...], group: str, limits: StuckFor
) -> None:
    """Say how many entries only --min-idle leaves out: a consumer that fails and starts again keeps them young."""
    younger = run(_each(settings, project, names, group, limits._replace(idle_ms=0), _count)).total()
    if younger:
        count = counted(younger, "entry was", "entries were")
        click.echo(f"{count} delivered within the last {duration(limits.idle_ms / 1000)}: see --min-idle.", err=True)


async def _each(  # noqa: PLR0913, PLR0917 the selection of entries
    settings: Settings,
    project: str | None,
    names: tuple[str, ...],
    group: str,
    limits: StuckFor,
    work: Callable[[Client, str, list[PendingEntry]], Awaitable[int]],
) -> Counter[str]:
    """Do something with the stuck entries of a group. Return how many of each stream it was done with."""
    counts: Counter[str] = Counter()
    async with streams_connected(settings, project) as (client, routing):
        topics = await having_group(client, chosen_streams(routing, names), group)
        if not topics:
            raise ReceiverError(f"no topic has a consumer group {group}: see `receiver groups`")
        with bar(console(stderr=True)) as progress:
            task = progress.add_task("entries", total=None)
            for topic in topics:
                async for entries in stuck(client, topic, group, limits):
                    counts[topic] += await work(client, topic, entries)
                    progress.advance(task, len(entries))
    return counts


groups.add_command(create)

"""``receiver quarantine``: work with the items that failed validation."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import click

from receiver.cli.connections import (
    connected,
    load_overrides,
    publishing,
    run,
    with_window_in_force,
)
from receiver.cli.environment import Environment, with_environment
from receiver.cli.formatting import counted
from receiver.cli.lazy_group import OrderedGroup
from receiver.cli.options import (
    EntryId,
    chosen_projects,
    entry_ids,
    json_option,
    of_project,
    project_option,
    yes_option,
)
from receiver.cli.output import echo_json
from receiver.cli.quarantine_store import DROPPED, MISSING, PUBLISHED, Item, Quarantine, Retry, RetryResult
from receiver.cli.quarantine_view import item_as_json, print_item, print_items
from receiver.cli.retry_progress import RetryProgress
from receiver.errors import ReceiverError
from receiver.routing import Routing
from receiver.streams.entry_ids import id_parts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from receiver.projects import Project
    from receiver.settings import Settings

_all = click.option("--all", "every", is_flag=True, help="All current items.")


@click.group(
    cls=OrderedGroup,
    epilog="\b\nExamples:\n"
    "  receiver quarantine list                  the newest rejected items, with reasons\n"
    "  receiver quarantine show 1795258820220-0  an item as received\n"
    "  receiver quarantine retry --all           after a schema was fixed\n"
    "  receiver quarantine drop 1795258820220-0  delete an item",
)
def quarantine() -> None:
    """List, retry and drop rejected items."""


@quarantine.command("list")
@project_option
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="Show at most this many, newest first."
)
@json_option
@with_environment
def list_(environment: Environment, *, project: str | None, limit: int, as_json: bool) -> None:
    """List the items of all projects, newest first."""
    settings, projects = _settings(environment, project)
    items, total = run(_newest(settings, projects, limit))
    if as_json:
        for item in items:
            echo_json(item_as_json(item))
    elif not items:
        click.echo(f"The {_of(projects)} empty.")
    else:
        print_items(items, total, several=len(projects) > 1)


@quarantine.command()
@click.argument("id_", type=EntryId(), metavar="ID")
@project_option
@json_option
@with_environment
def show(environment: Environment, *, id_: str, project: str | None, as_json: bool) -> None:
    """Show a complete item, with the reasons."""
    settings, projects = _settings(environment, project)
    items = run(_find(settings, projects, (id_,)))
    if not items:
        raise ReceiverError(f"there is no entry {id_} in the {_of(projects)}: see `receiver quarantine list`")
    for item in items:
        if as_json:
            echo_json(item_as_json(item))
        else:
            print_item(item)


@quarantine.command()
@entry_ids
@_all
@project_option
@json_option
@with_environment
def retry(environment: Environment, *, ids: tuple[str, ...], every: bool, project: str | None, as_json: bool) -> None:
    """Validate items again, and publish those that are valid now.

    Their events use the current routes, and the dedupe window of the service on this Redis. An item is removed from the
    quarantine once its event is in the stream. Invalid items stay. The exit code is 1 if any item stays.
    """
    settings, projects = _settings(environment, project)
    counts = run(_retry(settings, projects, _selected(ids, every=every), RetryProgress("retrying", as_json=as_json)))
    if counts.total() != counts[PUBLISHED]:
        sys.exit(1)


@quarantine.command()
@entry_ids
@_all
@project_option
@yes_option
@json_option
@with_environment
def drop(  # noqa: PLR0913 a parameter for each option
    environment: Environment, *, ids: tuple[str, ...], every: bool, project: str | None, yes: bool, as_json: bool
) -> None:
    """Delete items for good. With several projects, --all needs --project."""
    settings, projects = _settings(environment, project)
    selected = _selected(ids, every=every)
    if every and len(projects) > 1:
        raise click.UsageError("--all drops the items of one project: choose it with --project.")
    if not yes:
        count = run(_count(settings, projects)) if every else len(set(ids))
        click.confirm(
            f"Drop {counted(count, 'item')}{of_project([each.id for each in projects])} for good?", abort=True, err=True
        )
    counts = run(_drop(settings, projects, selected, RetryProgress("dropping", as_json=as_json)))
    if counts[MISSING]:
        sys.exit(1)


def _settings(environment: Environment, project: str | None) -> tuple[Settings, list[Project]]:
    """Return the settings, and the chosen project or all."""
    settings = environment.settings()
    return settings, chosen_projects(settings.projects, project)


def _of(projects: list[Project]) -> str:
    """Return ``quarantine of project shop is``, or ``quarantines of all projects are``."""
    return f"quarantine of project {projects[0].id} is" if len(projects) == 1 else "quarantines of all projects are"


def _selected(ids: tuple[str, ...], *, every: bool) -> tuple[str, ...]:
    """Return the ids, or an empty tuple for ``--all``. Raises click.UsageError unless exactly one is given."""
    if bool(ids) == every:
        raise click.UsageError("give the ids of some items, or --all.")
    return ids


async def _newest(settings: Settings, projects: list[Project], limit: int) -> tuple[list[Item], int]:
    async with connected(settings) as client:
        quarantines = [Quarantine(client, project) for project in projects]
        items = [item for one in quarantines for item in await one.newest(limit)]
        items.sort(key=lambda item: id_parts(item.id), reverse=True)
        return items[:limit], sum([await one.count() for one in quarantines])


async def _find(settings: Settings, projects: list[Project], ids: tuple[str, ...]) -> list[Item]:
    async with connected(settings) as client:
        return [item for project in projects for item in await Quarantine(client, project).chosen(ids)]


async def _count(settings: Settings, projects: list[Project]) -> int:
    async with connected(settings) as client:
        return sum([await Quarantine(client, project).count() for project in projects])


async def _retry(
    settings: Settings, projects: list[Project], ids: tuple[str, ...], results: RetryProgress
) -> Counter[str]:
    async with connected(settings) as client, publishing(await with_window_in_force(client, settings)) as primaries:
        routing = Routing(projects)
        await load_overrides(client, routing)

        async def retry_(quarantine_: Quarantine, items: list[Item]) -> list[RetryResult]:
            routes = routing[quarantine_.project.id]
            return await Retry(quarantine_, primaries, routes, settings.max_items).retry(items)

        return await _each([Quarantine(client, project) for project in projects], ids, retry_, results)


async def _drop(
    settings: Settings, projects: list[Project], ids: tuple[str, ...], results: RetryProgress
) -> Counter[str]:
    async def remove(quarantine_: Quarantine, items: list[Item]) -> list[RetryResult]:
        await quarantine_.remove([item.id for item in items])
        return [item.result(DROPPED, []) for item in items]

    async with connected(settings) as client:
        quarantines = [Quarantine(client, project) for project in projects]
        found = Counter([item.id for one in quarantines for item in await one.chosen(ids)])
        if doubled := [id_ for id_, times in found.items() if times > 1]:
            raise ReceiverError(f"several projects have an entry {doubled[0]}: choose one with --project")
        return await _each(quarantines, ids, remove, results)


async def _each(
    quarantines: list[Quarantine],
    ids: tuple[str, ...],
    process: Callable[[Quarantine, list[Item]], Awaitable[list[RetryResult]]],
    results: RetryProgress,
) -> Counter[str]:
    """Process the items with these ids, or all without ids, and show the results."""
    with results.progress(len(ids) or sum([await one.count() for one in quarantines])):
        missing = dict.fromkeys(ids)
        for one in quarantines:
            if not ids:
                async for page in one.pages():
                    results.add(await process(one, page))
            elif items := await one.chosen(ids):
                results.add(await process(one, items))
                for item in items:
                    missing.pop(item.id, None)
        if missing:
            results.add([RetryResult(id_, MISSING, []) for id_ in missing])
    return results.end()

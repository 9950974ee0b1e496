"""``receiver quarantine``: work with the items that failed validation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from receiver.cli.connections import chosen_project, configured_routing, connected, load_overrides, publishing, run
from receiver.cli.environment import Environment, with_environment
from receiver.cli.formatting import moment, safe
from receiver.cli.lazy_group import OrderedGroup
from receiver.cli.output import console, echo_json, json_option, print_table, table
from receiver.cli.quarantine_store import DROPPED, ENTRY_ID, MISSING, PUBLISHED, Item, Quarantine, Retry, RetryResult
from receiver.cli.retry_progress import RetryProgress
from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable

    from receiver.projects import Project
    from receiver.settings import Settings

_project = click.option("--project", metavar="ID", help="The project. [default: the default one]")
_all = click.option("--all", "every", is_flag=True, help="All current items.")


class _EntryId(click.ParamType[str]):
    name = "ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 click's
        if not ENTRY_ID.fullmatch(value):
            self.fail(f"{value!r} is not the id of an entry, such as 1795258820220-0.", param, ctx)
        return str(value)


_ids = click.argument("ids", nargs=-1, type=_EntryId(), metavar="[ID]...")


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
@_project
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="Show at most this many, newest first."
)
@json_option
@with_environment
def list_(environment: Environment, *, project: str | None, limit: int, as_json: bool) -> None:
    """List items, newest first."""
    settings, chosen = _settings(environment, project)
    items, total = run(_newest(settings, chosen, limit))
    if as_json:
        for item in items:
            echo_json(_as_json(item))
    elif not items:
        click.echo(f"The quarantine of project {chosen.id} is empty.")
    else:
        _print_list(items, total)


@quarantine.command()
@click.argument("id_", type=_EntryId(), metavar="ID")
@_project
@json_option
@with_environment
def show(environment: Environment, *, id_: str, project: str | None, as_json: bool) -> None:
    """Show a complete item, with the reasons."""
    settings, chosen = _settings(environment, project)
    item = run(_find(settings, chosen, id_))
    if item is None:
        raise ReceiverError(f"the quarantine of project {chosen.id} has no entry {id_}: see `receiver quarantine list`")
    if as_json:
        echo_json(_as_json(item))
    else:
        _print_item(item)


@quarantine.command()
@_ids
@_all
@_project
@json_option
@with_environment
def retry(environment: Environment, *, ids: tuple[str, ...], every: bool, project: str | None, as_json: bool) -> None:
    """Validate items again, and publish those that are valid now.

    Their events use the current routes and the same deduplication. An item is removed from the quarantine once its
    event is in the stream. Invalid items stay. The exit code is 1 if any item stays.
    """
    settings, chosen = _settings(environment, project)
    counts = run(_retry(settings, chosen, _selected(ids, every=every), RetryProgress("retrying", as_json=as_json)))
    if counts.total() != counts[PUBLISHED]:
        sys.exit(1)


@quarantine.command()
@_ids
@_all
@_project
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@with_environment
def drop(  # noqa: PLR0913 a parameter for each option
    environment: Environment, *, ids: tuple[str, ...], every: bool, project: str | None, yes: bool, as_json: bool
) -> None:
    """Delete items for good."""
    settings, chosen = _settings(environment, project)
    selected = _selected(ids, every=every)
    if not yes:
        count = run(_count(settings, chosen)) if every else len(set(ids))
        items = "1 item" if count == 1 else f"{count:,} items"
        click.confirm(f"Drop {items} of project {chosen.id} for good?", abort=True, err=True)
    counts = run(_drop(settings, chosen, selected, RetryProgress("dropping", as_json=as_json)))
    if counts[MISSING]:
        sys.exit(1)


def _settings(environment: Environment, project: str | None) -> tuple[Settings, Project]:
    settings = environment.settings()
    return settings, chosen_project(settings.projects, project)


def _selected(ids: tuple[str, ...], *, every: bool) -> tuple[str, ...]:
    """Return the ids, or an empty tuple for ``--all``. Raises click.UsageError unless exactly one is given."""
    if bool(ids) == every:
        raise click.UsageError("give the ids of some items, or --all.")
    return ids


async def _newest(settings: Settings, project: Project, limit: int) -> tuple[list[Item], int]:
    async with connected(settings) as client:
        items = Quarantine(client, project)
        return await items.newest(limit), await items.count()


async def _find(settings: Settings, project: Project, id_: str) -> Item | None:
    async with connected(settings) as client:
        return await Quarantine(client, project).find(id_)


async def _count(settings: Settings, project: Project) -> int:
    async with connected(settings) as client:
        return await Quarantine(client, project).count()


async def _retry(settings: Settings, project: Project, ids: tuple[str, ...], results: RetryProgress) -> Counter[str]:
    async with connected(settings) as client, publishing(settings) as primaries:
        quarantine_ = Quarantine(client, project)
        routing = configured_routing([project])
        await load_overrides(client, routing)
        retry_ = Retry(quarantine_, primaries, routing[project.id], project, settings.max_items)
        return await _each(quarantine_, ids, retry_.retry, results)


async def _drop(settings: Settings, project: Project, ids: tuple[str, ...], results: RetryProgress) -> Counter[str]:
    async with connected(settings) as client:
        quarantine_ = Quarantine(client, project)

        async def remove(items: list[Item]) -> list[RetryResult]:
            await quarantine_.remove([item.id for item in items])
            return [RetryResult(item.id, DROPPED, []) for item in items]

        return await _each(quarantine_, ids, remove, results)


async def _each(
    quarantine_: Quarantine,
    ids: tuple[str, ...],
    process: Callable[[list[Item]], Awaitable[list[RetryResult]]],
    results: RetryProgress,
) -> Counter[str]:
    """Process the items with these ids, or all without ids, and show the results."""
    with results.progress(len(ids) or await quarantine_.count()):
        if ids:
            items, missing = await quarantine_.chosen(ids)
            results.add([*await process(items), *(RetryResult(id_, MISSING, []) for id_ in missing)])
        else:
            async for page in quarantine_.pages():
                results.add(await process(page))
    return results.end()


def _as_json(item: Item) -> dict[str, object]:
    event = item.data if item.envelope else b"null"
    return {"entry_id": item.id, "event": msgspec.Raw(event)}


def _print_list(items: list[Item], total: int) -> None:
    shown = table("entry", "received", "provider", "reasons", ids=("entry", "received", "provider"))
    for item in items:  # only the reasons are shortened
        reasons = Text(safe("; ".join(item.reasons)), no_wrap=True, overflow="ellipsis")
        shown.add_row(item.id, *map(Text, _origin(item)), reasons)
    print_table(shown)
    if total > len(items):
        console().print(f"{len(items)} of {total:,}; --limit shows more.", style="dim")


def _origin(item: Item) -> tuple[str, str]:
    if item.envelope is None:
        return "", ""
    return moment(item.envelope.receivedtime, date=True), safe(item.envelope.provider)


def _print_item(item: Item) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_row("entry", item.id)
    if item.envelope is not None:
        grid.add_row("received", safe(item.envelope.receivedtime))
        grid.add_row("source", Text(safe(item.envelope.source)))
    for number, reason in enumerate(item.reasons):
        grid.add_row("" if number else "reasons", Text(safe(reason), "yellow"))
    out = console()
    print_table(grid)
    out.print()
    out.print(JSONHighlighter()(Text("\n".join(map(safe, _pretty(item.raw).split("\n"))))), soft_wrap=True)


def _pretty(raw: bytes) -> str:
    """Return an item's text as indented JSON, or unchanged if it is not JSON."""
    try:
        return msgspec.json.format(raw, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return raw.decode(errors="backslashreplace")

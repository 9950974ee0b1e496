"""``receiver find``: what became of a message."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import click
from redis.exceptions import RedisError

from receiver.cli.connections import (
    RedisAwayError,
    connected,
    failure,
    load_overrides,
    redis_url,
    run,
    with_window_in_force,
)
from receiver.cli.environment import Environment, with_environment
from receiver.cli.find_view import print_extent, print_json, print_result
from receiver.cli.formatting import moment
from receiver.cli.options import Ago, chosen_projects, json_option, project_option
from receiver.cli.output import console
from receiver.cli.progress import bar
from receiver.events import utc
from receiver.lookups.reports import Reports
from receiver.redis_client import connect
from receiver.routing import Routing
from receiver.search.finder import LIMIT, SINCE, Search, SearchRequest
from receiver.search.result import Verdict
from receiver.search.scope import SearchScope
from receiver.search.streams import SearchBudget

if TYPE_CHECKING:
    from receiver.projects import Project
    from receiver.redis_client import Client
    from receiver.settings import Settings


@click.command(
    epilog="\b\nExamples:\n"
    "  receiver find 5000:1045710669157053657849499619  a message, by the provider's id\n"
    "  receiver find +8613800138000 --since 3d          reports and replies of a phone number\n"
    "  receiver find dc35f0a1b2c3d4e5f60718293a4b5c6d   an event, by its id in the stream\n"
    "  receiver find 1795258820220-0                    an entry, by its id in the stream\n\n"
    "\b\nThe verdict is one of\n"
    "  published      in the stream of its topic; `groups` shows who has read it\n"
    "  dead-lettered  put aside for a group that did not finish it, with the reason\n"
    "  quarantined    rejected, with the reasons: `receiver quarantine retry ENTRY`\n"
    "  spooled        safe on disk while Redis is away; on another machine, look there\n"
    "  duplicate      spooled, and already in its stream\n"
    "  trimmed        published, and not in the stream any more\n"
    "  not seen       no trace of it, as far as was searched\n\n"
    "For each consumer group an entry is `not read`, `pending` with a consumer, or `acknowledged`, as are entries "
    "before the start of the group.",
    no_args_is_help=True,
)
@click.argument("id_", metavar="ID")
@project_option
@click.option(
    "--since",
    type=Ago(),
    metavar="TIME",
    help="Search all entries back to this long ago, even if one was found: 90s, 10m, 2h, 7d. [default: 24h, and only "
    "while no hint says where the event is]",
)
@click.option("--limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="End after this many events.")
@json_option
@with_environment
def find(  # noqa: PLR0913 a parameter for each option
    environment: Environment, *, id_: str, project: str | None, since: float | None, limit: int, as_json: bool
) -> None:
    """Find what became of a message.

    ID is a message id, an event's id, an entry's id, or a phone number in any spelling. The report index and the
    dedupe say where an entry is, if they know it. Else all topics are read backwards, with at most half of Redis'
    time. The exit code is 1 if nothing was found.
    """
    if not id_.isprintable() or not id_:
        raise click.BadParameter("write the id as printable text in one line.", param_hint="ID")
    settings = environment.settings()
    projects = chosen_projects(settings.projects, project)
    verdicts = run(_find(settings, projects, id_, since, limit, as_json=as_json))
    if verdicts == {Verdict.NOT_SEEN}:
        sys.exit(1)


async def _find(  # noqa: PLR0913 the options
    settings: Settings, projects: list[Project], text: str, since: float | None, limit: int, *, as_json: bool
) -> set[Verdict]:
    routing = Routing(projects)
    verdicts: set[Verdict] = set()
    wanted = text, since, limit, verdicts
    try:
        async with connected(settings) as client:
            await load_overrides(client, routing)
            settings = await with_window_in_force(client, settings)
            await _search(_scope(settings, projects, client, routing), *wanted, as_json=as_json)
            return verdicts
    except RedisAwayError as away:
        if verdicts:  # what was found has been shown, and would be shown again
            raise
        click.echo(f"receiver: {away} Only the spool is searched.", err=True)
    client = connect(redis_url(settings))
    try:
        await _search(_scope(settings, projects, client, routing), *wanted, as_json=as_json)
    except (RedisError, OSError) as error:  # Redis has come back meanwhile
        raise failure(settings, error) from None
    finally:
        await client.aclose()
    return verdicts


async def _search(  # noqa: PLR0913 the options
    scope: SearchScope, text: str, since: float | None, limit: int, verdicts: set[Verdict], *, as_json: bool
) -> None:
    """Show what is found, and add its verdicts."""
    with bar(console(stderr=True), counted=False) as progress:
        now_ms = int(time.time() * 1000)
        back = SINCE.total_seconds() if since is None else since
        task = progress.add_task("searching", total=back * 1000)

        def on_step(looked_at: int, back_to_ms: int) -> None:
            back_to_ms = min(back_to_ms, now_ms)
            where = f"back to {moment(utc(back_to_ms // 1000), date=True)}, {looked_at:,} entries"
            progress.update(task, description=where, completed=now_ms - back_to_ms)

        oldest_ms = None if since is None else now_ms - int(since * 1000)
        search = Search(
            scope, SearchRequest(text=text, oldest_ms=oldest_ms, limit=limit, budget=SearchBudget(on_step=on_step))
        )
        async for result in search.results():
            verdicts.add(result.verdict)
            progress.update(task, visible=False, refresh=True)  # the bar is not in the way of what is found
            print_json(result) if as_json else print_result(result)
            progress.update(task, visible=True)
    print_extent(search, scope)


def _scope(settings: Settings, projects: list[Project], client: Client, routing: Routing) -> SearchScope:
    reports = Reports(client, timedelta(seconds=settings.report_retention))
    sign_ids = {project.id: project.own_sign_id for project in projects}
    return SearchScope(
        client, routing, reports, settings.data_dir.absolute() / "spool", settings.dedupe_window, sign_ids
    )

"""``receiver find``: what became of a message."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click
from redis.exceptions import RedisError
from rich.text import Text

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
from receiver.cli.formatting import elapsed, moment, safe, times
from receiver.cli.options import Ago, chosen_projects, json_option, project_option
from receiver.cli.output import console, echo_json
from receiver.cli.progress import bar
from receiver.events import utc
from receiver.lookups.reports import Reports
from receiver.redis_client import connect
from receiver.routing import Routing
from receiver.search.finder import LIMIT, SINCE, Search, SearchRequest
from receiver.search.result import Verdict
from receiver.search.scope import SearchScope
from receiver.search.streams import SearchBudget
from receiver.streams.entry_readers import ACKNOWLEDGED, PENDING
from receiver.web.smn.response_schemas import FoundEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.lookups.reports import Report
    from receiver.projects import Project
    from receiver.redis_client import Client
    from receiver.search.result import SearchResult
    from receiver.settings import Settings
    from receiver.streams.entry_readers import Reader

_COLOURS: Final = {
    Verdict.PUBLISHED: "green",
    Verdict.DUPLICATE: "cyan",
    Verdict.SPOOLED: "cyan",
    Verdict.DEAD_LETTERED: "yellow",
    Verdict.QUARANTINED: "yellow",
    Verdict.TRIMMED: "yellow",
    Verdict.NOT_SEEN: "red",
}
_STATUSES: Final = ("no final status", "delivered", "failed")
_SHOWN: Final = ("status_desc", "description", "reply")
_schema: Final = FoundEvent()


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
            _show_json(result) if as_json else _print(result)
            progress.update(task, visible=True)
    _print_extent(search, scope)


def _scope(settings: Settings, projects: list[Project], client: Client, routing: Routing) -> SearchScope:
    reports = Reports(client, timedelta(seconds=settings.report_retention))
    sign_ids = {project.id: project.own_sign_id for project in projects}
    return SearchScope(
        client, routing, reports, settings.data_dir.absolute() / "spool", settings.dedupe_window, sign_ids
    )


def _show_json(result: SearchResult) -> None:
    echo_json(_schema.dump(result))


def _print(result: SearchResult) -> None:
    out = console()
    verdict = Text(result.verdict.value, f"bold {_COLOURS[result.verdict]}")
    out.print(Text.assemble(verdict, "  ", safe(result.why)), soft_wrap=True)
    for name, value in _lines(result):
        out.print(Text.assemble((f"  {name:<10}", "dim"), value), soft_wrap=True)
    out.print()


def _lines(result: SearchResult) -> Iterator[tuple[str, Text | str]]:
    if result.event is not None:
        yield from _of_event(result.event.data, result)
    for name, value in (
        ("project", result.project_id),
        ("topic", result.topic),
        ("entry", result.entry_id),
        ("file", result.spool_file),
    ):
        if value is not None:
            yield name, safe(value)
    for number, reader in enumerate(result.readers):
        yield "" if number else "groups", _reader(reader)
    if result.entry_id is not None and not result.readers:
        yield "groups", "none"
    if result.record is not None:
        yield "report", _report(result.record)
    if result.verdict is Verdict.QUARANTINED:
        yield "mend", f"receiver quarantine show {result.entry_id} --project {result.project_id}"


def _of_event(data: dict[str, Any], result: SearchResult) -> Iterator[tuple[str, str]]:
    event = result.event
    if event is None:
        return
    for name, value in (("message", data.get("message_id")), ("number", _number(data)), ("event", event.id)):
        if value:
            yield name, safe(value)
    details = " ".join(str(data[name]) for name in _SHOWN if data.get(name))
    yield "type", safe(f"{event.type} {details}".rstrip())
    yield "received", safe(f"{event.receivedtime}{_age(event.receivedtime)}, from {event.provider}")


def _number(data: dict[str, Any]) -> str:
    return " ".join(str(data[name]) for name in ("nation_code", "mobile") if data.get(name))


def _age(receivedtime: str) -> str:
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(receivedtime)
    except (ValueError, TypeError):
        return ""
    return f", {elapsed(age.total_seconds())} ago"


def _reader(reader: Reader) -> Text:
    colour = {PENDING: "yellow", ACKNOWLEDGED: "green"}.get(reader.state, "red")
    line = Text.assemble(safe(reader.group), "  ", (reader.state, colour))
    if reader.state == PENDING:
        idle = elapsed((reader.idle_ms or 0) / 1000)
        line.append(f" with {safe(reader.consumer)}, idle for {idle}, delivered {times(reader.deliveries or 0)}")
    return line


def _report(report: Report) -> str:
    at = report.deliver_time or report.submit_time
    parts = (_STATUSES[report.status], report.status_desc, None if at is None else utc(at // 1000))
    return safe(" ".join(part for part in parts if part))


def _print_extent(search: Search, scope: SearchScope) -> None:
    """Print on stderr what was searched, and what was not."""
    for problem in search.problems:
        click.echo(f"receiver: {problem}.", err=True)
    spool = f"the spool in {scope.spool}" if search.has_spool else f"no spool, because none is in {scope.spool}"
    if search.back_to_ms is not None:
        streams = f"the streams back to {utc(search.back_to_ms // 1000)}; "
    elif search.reached:
        streams = "the streams where the event was to be expected (--since searches further); "
    else:
        streams = ""
    click.echo(f"Searched: {streams}{spool}.", err=True)
    if not search.complete and search.resume_ms is not None:
        click.echo("The limit ended the search: there may be more; --limit shows more.", err=True)

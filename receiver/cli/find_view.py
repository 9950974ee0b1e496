"""How ``receiver find`` shows what became of a message: the verdict and its reason, then the event line by line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from rich.text import Text

from receiver.cli.formatting import elapsed, safe, times
from receiver.cli.groups_view import STUCK_MS
from receiver.cli.options import of_project
from receiver.cli.output import console, echo_json
from receiver.events import utc
from receiver.search.result import Verdict
from receiver.streams.entry_readers import ACKNOWLEDGED, PENDING
from receiver.web.smn.response_schemas import FoundEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.lookups.reports import Report
    from receiver.search.finder import Search
    from receiver.search.result import SearchResult
    from receiver.search.scope import SearchScope
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


def print_json(result: SearchResult) -> None:
    """Print a result as one line of JSON."""
    echo_json(_schema.dump(result))


def print_result(result: SearchResult) -> None:
    """Print the verdict, and below it what is known of the event."""
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
    yield from _next_steps(result)


def _next_steps(result: SearchResult) -> Iterator[tuple[str, str]]:
    """Yield the commands that help, for an entry that a consumer has left, or whose work was lost."""
    if result.verdict is Verdict.QUARANTINED:
        yield "fix", f"receiver quarantine show {result.entry_id} --project {result.project_id}"
    for reader in result.readers:
        if reader.state == PENDING and (reader.idle_ms or 0) >= STUCK_MS:
            claim = f"receiver groups claim {safe(reader.group)} --topic {result.topic}"
            yield "fix", f"{claim} --from {safe(reader.consumer)} --to CONSUMER, then restart CONSUMER"
    if any(reader.state == ACKNOWLEDGED for reader in result.readers):
        entry = result.entry_id
        yield "if lost", f"receiver replay --topic {result.topic} --from {entry} --to {entry}"


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


def print_extent(search: Search, scope: SearchScope) -> None:
    """Print on stderr what was searched, and what was not."""
    for problem in search.problems:
        click.echo(f"receiver: {problem.rstrip('.')}.", err=True)
    spool = f"the spool in {scope.spool}" if search.has_spool else f"no spool, because none is in {scope.spool}"
    whose = of_project(scope.sign_ids)
    if search.back_to_ms is not None:
        streams = f"the streams{whose} back to {utc(search.back_to_ms // 1000)}; "
    elif search.reached:
        streams = f"the streams{whose} where the event was to be expected (--since searches further); "
    else:
        streams = ""
    click.echo(f"Searched: {streams}{spool}.", err=True)
    if not search.complete and search.resume_ms is not None:
        click.echo("The limit ended the search: there may be more; --limit shows more.", err=True)

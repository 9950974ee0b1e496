"""How ``receiver quarantine`` shows items: as a table, one by one, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from receiver.cli.formatting import moment, safe
from receiver.cli.output import console, place, print_table, table

if TYPE_CHECKING:
    from receiver.cli.quarantine_store import Item


def item_as_json(item: Item) -> dict[str, object]:
    """Return an item as JSON values; its event is null if it is not one of this service."""
    event = item.data if item.event else b"null"
    return place(item.topic, item.id) | {"event": msgspec.Raw(event)}


def print_items(items: list[Item], total: int, *, several: bool) -> None:
    """Print items, with the project of each if there are several."""
    ids = ("entry", "received", *(("project",) if several else ()), "provider")
    shown = table(*ids, "reasons", ids=ids)
    for item in items:  # only the reasons are shortened
        received, provider = _origin(item)
        project = (item.project,) if several else ()
        reasons = Text(safe("; ".join(item.reasons)), no_wrap=True, overflow="ellipsis")
        shown.add_row(item.id, *map(Text, (received, *project, provider)), reasons)
    print_table(shown)
    if total > len(items):
        console().print(f"{len(items)} of {total:,}; --limit shows more.", style="dim")


def _origin(item: Item) -> tuple[str, str]:
    if item.event is None:
        return "", ""
    return moment(item.event.receivedtime, date=True), safe(item.event.provider)


def print_item(item: Item) -> None:
    """Print a complete item, with its reasons."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_row("project", item.project)
    grid.add_row("entry", item.id)
    if item.event is not None:
        grid.add_row("received", safe(item.event.receivedtime))
        grid.add_row("source", Text(safe(item.event.source)))
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

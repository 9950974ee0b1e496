"""How commands print: tables that cut no id, text without a width where it is piped, and JSON as one object a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from receiver.cli.formatting import safe_json
from receiver.routing import project_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Columns of a file or a pipe: more than any line has. Other programs read whole lines.
_UNLIMITED: Final = 1_000_000


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or without a width where the output is piped."""
    made = Console(highlight=False, stderr=stderr)
    if not made.file.isatty():
        made.width = _UNLIMITED
    return made


def echo_json(value: Mapping[str, object]) -> None:
    """Print an object as one line of JSON, without terminal controls. deploy/README.md has the rule for its members."""
    click.echo(safe_json(msgspec.json.encode(value)))


def place(topic: str, entry_id: str | None = None) -> dict[str, str | None]:
    """Return the members of a JSON object that name a stream, or an entry in it."""
    names = {"project_id": project_of(topic), "topic_urn": topic}
    return names if entry_id is None else names | {"entry_id": entry_id}


def table(*names: str, ids: Collection[str] = (), right: Collection[str] = ()) -> Table:
    """Return a table with these columns. Those in ``ids`` are never folded, those in ``right`` hold numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=name in ids, overflow="fold")
    return made


def print_table(rows: Table, *, stderr: bool = False) -> None:
    """Print a table. On a terminal that is too narrow for its ids, lines are longer than the terminal is wide."""
    out = console(stderr=stderr)
    unlimited = out.options.update(max_width=_UNLIMITED)
    for column in (column for column in rows.columns if column.no_wrap):  # else it is as wide as its longest word
        cells = (column.header, *column.cells)
        column.min_width = max(Measurement.get(out, unlimited, cell).maximum for cell in cells)
    least = Measurement.get(out, unlimited, rows).minimum
    out.width = max(out.width, least)
    if out.file.isatty():
        out.print(rows)
        return
    with out.capture() as printed:
        out.print(rows)
    for line in printed.get().splitlines():
        click.echo(line.rstrip(), err=stderr)

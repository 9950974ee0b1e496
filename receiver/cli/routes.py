"""``receiver routes``: the topic of each event type, and the origin of the route."""

from __future__ import annotations

import os
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from receiver.cli.connections import chosen_project, configured_routing, connected, load_overrides, run
from receiver.cli.formatting import echo_json
from receiver.settings import Settings, read_settings

Row = dict[str, Any]


@click.command(
    epilog="\b\nA route comes from\n"
    "  default        nothing is configured\n"
    "  configuration  the file that RECEIVER_CONFIG names\n"
    "  run time       UpdateSmsEvent, on every replica; it overrides the others"
)
@click.option("--project", "project_id", metavar="ID", help="Only this project.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def routes(project_id: str | None, *, as_json: bool) -> None:
    """Show the topic of each event type, and where the route comes from.

    A partitioned topic has further streams, listed below it: a consumer reads all of them.
    """
    settings = read_settings(os.environ)
    only = None if project_id is None else chosen_project(settings.projects, project_id).id
    rows = [row for row in run(_rows(settings)) if only in (None, row["project"])]
    if as_json:
        for row in rows:
            echo_json(row)
        return
    table = Table("project", "event type", "topic", "from", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["project"], row["event_type"], row["topic_urn"], row["from"])
        for partition in row["stream_keys"][1:]:
            table.add_row("", "", partition, "partition")
    Console().print(table)


async def _rows(settings: Settings) -> list[Row]:
    routing = configured_routing(settings.projects.values())
    async with connected(settings) as client:
        await load_overrides(client, routing)
    return [
        {
            "project": project_id,
            "event_type": event_type,
            "topic_urn": table.table[event_type],
            "from": table.origin(event_type),
            "stream_keys": list(table.streams(event_type)),
        }
        for project_id, table in routing.projects.items()
        for event_type in table.types
    ]

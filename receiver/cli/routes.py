"""``receiver routes``: which topic each event type goes to, and why."""

from __future__ import annotations

import os

import click
from rich.console import Console
from rich.table import Table

from receiver import log
from receiver.cli.connections import chosen_project, configured_routing, connected, run
from receiver.cli.formatting import echo_json
from receiver.route_overrides import RouteOverrides
from receiver.settings import Settings, read_settings

Row = dict[str, str]


@click.command(
    epilog="\b\nA route comes from\n"
    "  default        nobody has said anything\n"
    "  configuration  the file that RECEIVER_CONFIG names\n"
    "  run time       UpdateSmsEvent; it is in force on every replica, over the others"
)
@click.option("--project", "wanted", metavar="ID", help="Only this project.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def routes(wanted: str | None, *, as_json: bool) -> None:
    """Show which topic each event type goes to, and why."""
    settings = read_settings(os.environ)
    only = None if wanted is None else chosen_project(settings.projects, wanted).id
    rows = [row for row in run(_rows(settings)) if only in (None, row["project"])]
    if as_json:
        for row in rows:
            echo_json(row)
        return
    table = Table("project", "event type", "topic", "from", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["project"], row["event_type"], row["topic_urn"], row["from"])
    Console().print(table)


async def _rows(settings: Settings) -> list[Row]:
    routing = configured_routing(settings.projects.values())
    async with connected(settings) as client:
        await RouteOverrides(client, routing, log.configure("warning")).refresh()
    return [
        {"project": project_id, "event_type": kind, "topic_urn": table.table[kind], "from": table.origin(kind)}
        for project_id, table in routing.projects.items()
        for kind in table.types
    ]

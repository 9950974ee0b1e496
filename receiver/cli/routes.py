"""``receiver routes``: the topic of each event type, and the origin of the route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from receiver.cli.connections import connected, load_overrides, run
from receiver.cli.environment import Environment, with_environment
from receiver.cli.options import chosen_project, json_option
from receiver.cli.output import echo_json, print_table, table
from receiver.routing import Routing

if TYPE_CHECKING:
    from receiver.settings import Settings

Row = dict[str, Any]


@click.command(
    epilog="\b\nA route comes from\n"
    "  default        nothing is configured\n"
    "  configuration  the file that RECEIVER_CONFIG names\n"
    "  run time       UpdateSmsEvent, on every replica; it overrides the others"
)
@click.option("--project", "project_id", metavar="ID", help="Only this project.")
@json_option
@with_environment
def routes(environment: Environment, *, project_id: str | None, as_json: bool) -> None:
    """Show the topic of each event type, and where the route comes from.

    A partitioned topic has further streams, listed below it: a consumer reads all of them.
    """
    settings = environment.settings()
    only = None if project_id is None else chosen_project(settings.projects, project_id).id
    rows = [row for row in run(_rows(settings)) if only in (None, row["project_id"])]
    if as_json:
        for row in rows:
            echo_json(row)
        return
    shown = table("project", "event type", "topic", "from", ids=("project", "event type", "topic"))
    for row in rows:
        shown.add_row(row["project_id"], row["event_type"], row["topic_urn"], row["origin"])
        for partition in row["stream_keys"][1:]:
            shown.add_row("", "", partition, "partition")
    print_table(shown)


async def _rows(settings: Settings) -> list[Row]:
    routing = Routing(settings.projects.values())
    async with connected(settings) as client:
        await load_overrides(client, routing)
    return [
        {
            "project_id": project_id,
            "event_type": event_type,
            "topic_urn": routes_.table[event_type],
            "origin": routes_.origin(event_type),
            "stream_keys": list(routes_.streams(event_type)),
        }
        for project_id, routes_ in routing.projects.items()
        for event_type in routes_.types
    ]

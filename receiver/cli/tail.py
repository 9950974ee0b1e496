"""``receiver tail``: show events as they arrive."""

from __future__ import annotations

import asyncio
import signal
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import click

from receiver.cli.connections import load_overrides, run
from receiver.cli.environment import Environment, with_environment
from receiver.cli.formatting import LinePrinter, safe_json
from receiver.cli.options import FOREVER, Ago, chosen_projects, project_option
from receiver.cli.output import console
from receiver.cli.stream_reader import StreamReader
from receiver.events import ROUTED, EventType
from receiver.routing import Routing
from receiver.streams.stored_event import decode_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.redis_client import Client
    from receiver.routing import ProjectRoutes

_TYPES: Final = {
    "success": EventType.SUCCESS,
    "fail": EventType.FAIL,
    "reply": EventType.REPLY,
    "sent": EventType.SENT,
    "rejected": EventType.REJECTED,
}


@click.command(
    epilog="\b\nExamples:\n"
    "  receiver tail                                new events, until Ctrl-C\n"
    "  receiver tail --since 10m --type fail        failures of the last ten minutes, and new ones\n"
    "  receiver tail --from-start --count 5 --json  the five oldest events"
)
@click.option("--from-start", is_flag=True, help="Start with the oldest event in Redis.")
@click.option("--since", type=Ago(), metavar="TIME", help="Start this long ago: 90s, 10m, 2h, 7d.")
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="End after N events.")
@project_option
@click.option(
    "--type",
    "types",
    type=click.Choice([*_TYPES]),
    metavar="TYPE",
    multiple=True,
    help=f"One of {', '.join(_TYPES)}; may be repeated.",
)
@click.option("--quarantine", is_flag=True, help="Also show rejected items.")
@click.option("--mask", is_flag=True, help="Hide phone numbers and message texts.")
@click.option("--json", "as_json", is_flag=True, help="One CloudEvents object a line, with control characters escaped.")
@with_environment
def tail(  # noqa: PLR0913 a parameter for each option
    environment: Environment,
    *,
    from_start: bool,
    since: float | None,
    count: int | None,
    project: str | None,
    types: tuple[str, ...],
    quarantine: bool,
    mask: bool,
    as_json: bool,
) -> None:
    """Show events as they arrive in the streams.

    Consumers are not affected. If Redis goes away, this waits until it is back.
    """
    if mask and as_json:
        raise click.UsageError("--json shows events unchanged; remove --mask.")
    if from_start and since is not None:
        raise click.UsageError("give --from-start or --since, not both.")
    settings = environment.settings()
    projects = chosen_projects(settings.projects, project)
    event_types = {_TYPES[name] for name in types} or {*ROUTED}
    if quarantine:
        event_types.add(EventType.REJECTED)
    routing = Routing(projects)
    if not any(_wanted(routes, event_types) for routes in routing.projects.values()):
        raise click.UsageError("no project publishes states that are not final: set pending = true at a provider.")
    since_seconds = FOREVER if from_start else since
    show = _show_json if as_json else _lines(mask=mask, date=since_seconds is not None, project=len(projects) > 1)

    async def topics(client: Client) -> list[str]:
        await load_overrides(client, routing)
        wanted = ((routes, _wanted(routes, event_types)) for routes in routing.projects.values())
        return [*{stream for routes, types in wanted for name in types for stream in routes.streams(name)}]

    try:
        run(_tail(StreamReader(settings, topics, since_seconds, _notify), event_types, count, show))
    except asyncio.CancelledError:
        pass  # SIGTERM
    except KeyboardInterrupt:
        _notify("")  # the terminal has just printed ^C


async def _tail(
    reader: StreamReader, event_types: set[EventType], count: int | None, show: Callable[[bytes], bool]
) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    shown = 0
    async with aclosing(reader.entries()) as batches:
        async for batch in batches:
            for data in batch:
                if _is_shown(data, event_types) and show(data):
                    shown += 1
                    if shown == count:
                        return


def _wanted(routes: ProjectRoutes, event_types: set[EventType]) -> set[EventType]:
    """Return those of the types that a project publishes, rejected items included."""
    return event_types.intersection((*routes.types, EventType.REJECTED))


def _is_shown(data: bytes, event_types: set[EventType]) -> bool:
    """Return whether to show an entry. Topics may be shared by several types; unknown types are shown."""
    event = decode_event(data)
    return event is None or event.type not in _TYPES.values() or event.type in event_types


def _show_json(data: bytes) -> bool:
    """Print an event. Return False for what is none: a line is an object."""
    if decode_event(data) is None:
        _notify(f"an entry is left out, which is not an event of this service: {len(data)} bytes.")
        return False
    click.echo(safe_json(data))
    return True


def _lines(*, mask: bool, date: bool, project: bool) -> Callable[[bytes], bool]:
    out = console()
    # A terminal gets one row for each event, as far as its ids allow; a file or pipe gets complete lines.
    width = out.width if out.is_terminal else None
    printer = LinePrinter(mask=mask, date=date, project=project, width=width)

    def show(data: bytes) -> bool:
        out.print(printer.line(data), soft_wrap=True)
        return True

    return show


def _notify(sentence: str) -> None:
    click.echo(f"receiver: {sentence}" if sentence else "", err=True)

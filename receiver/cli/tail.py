"""``receiver tail``: watch the events as they come."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import click
from marshmallow import ValidationError
from rich.console import Console

from receiver.cli.connections import chosen_project, configured_routing, load_overrides, run
from receiver.cli.formatting import LinePrinter, decoded, safe_json
from receiver.cli.stream_reader import StreamReader
from receiver.events import ROUTED, EventType
from receiver.settings import read_settings
from receiver.units import Seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

_TYPES: Final = {
    "success": EventType.SUCCESS,
    "fail": EventType.FAIL,
    "reply": EventType.REPLY,
    "sent": EventType.SENT,
    "rejected": EventType.REJECTED,
}
#: Columns of a terminal that has room for descriptions.
_ROOMY: Final = 100
#: Older than any event.
_EVER: Final = 1e12


class Ago(click.ParamType[float]):
    """A time that has passed: ``90s``, ``10m``, ``2h``, ``7d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 click's
        """Return seconds."""
        try:
            seconds: float | None = Seconds().deserialize(value)
        except ValidationError as error:
            self.fail(" ".join(map(str, error.messages)), param, ctx)
        return seconds or 0.0


@click.command(
    epilog="\b\nExamples:\n"
    "  receiver tail                                new events, until Ctrl-C\n"
    "  receiver tail --since 10m --type fail        failures of the last ten minutes, and on\n"
    "  receiver tail --from-start --count 5 --json  the five oldest events"
)
@click.option("--from-start", is_flag=True, help="Begin with the oldest event that Redis still has.")
@click.option("--since", type=Ago(), metavar="TIME", help="Begin so long ago: 90s, 10m, 2h, 7d.")
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="End after N events.")
@click.option("--project", metavar="ID", help="Only this project. [default: all]")
@click.option(
    "--type",
    "types",
    type=click.Choice([*_TYPES]),
    metavar="TYPE",
    multiple=True,
    help=f"One of {', '.join(_TYPES)}; may be repeated.",
)
@click.option("--quarantine", is_flag=True, help="Show rejected items as well.")
@click.option("--mask", is_flag=True, help="Hide phone numbers and what people wrote.")
@click.option("--json", "as_json", is_flag=True, help="One CloudEvents object a line, with control characters escaped.")
def tail(  # noqa: PLR0913 a parameter for each option
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
    """Watch events as they come into the streams.

    Reads beside the consumers and takes nothing from them. When Redis goes away it waits for it.
    """
    if mask and as_json:
        raise click.UsageError("--json shows events exactly as they are; leave out --mask.")
    if from_start and since is not None:
        raise click.UsageError("give --from-start or --since, not both.")
    settings = read_settings(os.environ)
    projects = list(settings.projects.values()) if project is None else [chosen_project(settings.projects, project)]
    wanted = {_TYPES[name] for name in types} or {*ROUTED}
    if quarantine:
        wanted.add(EventType.REJECTED)
    routing = configured_routing(projects)
    if not any(kind in wanted for routes in routing.projects.values() for kind in (*routes.types, EventType.REJECTED)):
        raise click.UsageError("no project publishes states that are not final: set pending = true at a provider.")
    past = _EVER if from_start else since
    show = _show_json if as_json else _lines(mask=mask, date=past is not None, project=len(projects) > 1)

    async def topics(client: Redis) -> list[str]:
        await load_overrides(client, routing)
        published = [(routes, (*routes.types, EventType.REJECTED)) for routes in routing.projects.values()]
        return list({routes.table[kind] for routes, types in published for kind in types if kind in wanted})

    try:
        run(_tail(StreamReader(settings, topics, past, _tell), wanted, count, show))
    except asyncio.CancelledError:
        pass  # SIGTERM
    except KeyboardInterrupt:
        _tell("")  # the terminal has just printed ^C


async def _tail(
    follower: StreamReader, wanted: set[EventType], count: int | None, show: Callable[[bytes], None]
) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    left = count
    async with aclosing(follower.entries()) as batches:
        async for batch in batches:
            for data in batch:
                if not _is_wanted(data, wanted):
                    continue
                show(data)
                if left is not None:
                    left -= 1
                    if left == 0:
                        return


def _is_wanted(data: bytes, wanted: set[EventType]) -> bool:
    """Several types may share a topic. What we do not know is shown: it is in a topic that was asked for."""
    event = decoded(data)
    return event is None or event.type not in _TYPES.values() or event.type in wanted


def _show_json(data: bytes) -> None:
    click.echo(safe_json(data))


def _lines(*, mask: bool, date: bool, project: bool) -> Callable[[bytes], None]:
    console = Console(highlight=False)
    person = console.is_terminal
    narrow = person and console.width < _ROOMY
    printer = LinePrinter(mask=mask, date=date, project=project, narrow=narrow)

    def show(data: bytes) -> None:
        # On a terminal a line is a line; into a file or pipe it goes whole.
        if person:
            console.print(printer.line(data), no_wrap=True, overflow="ellipsis")
        else:
            console.print(printer.line(data), soft_wrap=True)

    return show


def _tell(sentence: str) -> None:
    click.echo(f"receiver: {sentence}" if sentence else "", err=True)

"""``receiver simulate``: be the provider."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from receiver.cli.connections import run
from receiver.cli.formatting import echo_json
from receiver.cli.run_summary import print_summary, summary
from receiver.errors import ReceiverError
from receiver.runtime.sockets import authority
from receiver.settings import read_settings
from receiver.simulator.sender import CallbackSender, RunStats, SendPlan
from receiver.simulator.tencent import Shares, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

_SHARE: Final = click.FloatRange(0, 1)
#: Seconds between two looks at the progress.
_LOOK: Final = 0.1


class _Url(click.ParamType[str]):
    """A URL that can be posted to."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 click's
        """Return it as it is."""
        text = str(value)
        try:
            url = urlsplit(text)
            good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            good = False
        if not good:
            self.fail("not a URL of a receiver; write http://127.0.0.1:8080/sms/callback?key=…", param, ctx)
        return text


@click.command(
    epilog="\b\nExamples:\n"
    "  receiver simulate                               1,000 callbacks, 200 a second\n"
    "  receiver simulate --rate 0 --batch 100          no pauses, 100 reports each\n"
    "  receiver simulate --count 0 --invalid-share .1  every tenth item wrong\n"
    "  receiver simulate --seed 7                      twice: the second adds nothing"
)
@click.option("--url", type=_Url(), metavar="URL", help="Where to post. [default: the service of this environment]")
@click.option(
    "--count", type=click.IntRange(0), metavar="N", default=1000, show_default=True, help="Callbacks; 0: until Ctrl-C."
)
@click.option(
    "--rate",
    type=click.FloatRange(0),
    metavar="N",
    default=200,
    show_default=True,
    help="Callbacks a second; 0: no limit.",
)
@click.option(
    "--batch", type=click.IntRange(1), metavar="N", default=10, show_default=True, help="Status reports in a callback."
)
@click.option(
    "--fail-share",
    type=_SHARE,
    metavar="SHARE",
    default=0.1,
    show_default=True,
    help="Reports of messages that failed.",
)
@click.option(
    "--reply-share", type=_SHARE, metavar="SHARE", default=0.05, show_default=True, help="Callbacks that are a reply."
)
@click.option(
    "--invalid-share", type=_SHARE, metavar="SHARE", default=0, show_default=True, help="Items that break the schema."
)
@click.option(
    "--duplicate-share",
    type=_SHARE,
    metavar="SHARE",
    default=0,
    show_default=True,
    help="Acknowledged callbacks sent once more.",
)
@click.option(
    "--concurrency", type=click.IntRange(1), metavar="N", default=50, show_default=True, help="Requests at a time."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.01),
    metavar="SECONDS",
    default=5,
    show_default=True,
    help="Seconds to wait for an answer.",
)
@click.option(
    "--retry-pause",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=1,
    show_default=True,
    help="Seconds before sending again.",
)
@click.option("--seed", type=int, metavar="N", help="Send the same bytes whenever this number is given.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the sids of acknowledged reports.",
)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
def simulate(  # noqa: PLR0913 a parameter for each option
    *,
    url: str | None,
    count: int,
    rate: float,
    batch: int,
    fail_share: float,
    reply_share: float,
    invalid_share: float,
    duplicate_share: float,
    concurrency: int,
    timeout: float,
    retry_pause: float,
    seed: int | None,
    record: Path | None,
    as_json: bool,
) -> None:
    """Post callbacks as Tencent does.

    Status reports come in batches, replies one by one. A callback is acknowledged by HTTP 2xx with "result": 0. What
    is not is sent again, twice, and then given up; then the exit code is 1.
    """
    target = url or _own_url()
    plan = SendPlan(target, count, rate, concurrency, timeout, retry_pause, duplicate_share)
    traffic = Traffic(batch, Shares(fail_share, reply_share, invalid_share), seed)
    with ExitStack() as files:
        stats = run(_simulate(plan, traffic, _recorder(record, files)))
    if as_json:
        echo_json(summary(plan.url, stats))
    else:
        print_summary(plan.url, stats)
    if stats.given_up:
        sys.exit(1)


def _own_url() -> str:
    """Return the callback URL of the default project, its key included."""
    settings = read_settings(os.environ)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 we bind to nothing
    project = settings.projects.default
    if project is None:
        raise click.UsageError("no project is the default one: give --url http://…/sms/callback/{project}?key=…")
    key = f"?key={quote(project.callback_keys[0], safe='')}" if project.callback_keys else ""
    return f"http://{authority(host, settings.port)}/sms/callback{key}"


def _recorder(path: Path | None, files: ExitStack) -> Callable[[list[str]], None]:
    if path is None:
        return lambda _sids: None
    try:
        file = files.enter_context(path.open("w", encoding="utf-8"))
    except OSError as error:
        raise ReceiverError(f"cannot write {path}: {error.strerror}; give --record another file.") from None

    def write(sids: list[str]) -> None:
        file.writelines(f"{sid}\n" for sid in sids)
        file.flush()  # a checker may read while we run, or after we were killed

    return write


async def _simulate(plan: SendPlan, traffic: Traffic, record: Callable[[list[str]], None]) -> RunStats:
    sender = CallbackSender(plan, traffic, record)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, sender.stop)
    loop.add_signal_handler(signal.SIGTERM, sender.stop)
    showing = asyncio.create_task(_show_progress(plan, sender.stats))
    try:
        return await sender.run()
    finally:
        showing.cancel()
        await asyncio.wait([showing])


async def _show_progress(plan: SendPlan, stats: RunStats) -> None:
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.completed:,.0f} callbacks"),
        TextColumn("[green]{task.fields[rate]:,.0f}/s"),
        TextColumn("[red]{task.fields[bad]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=plan.callbacks or None, rate=0.0, bad="")
        while True:
            bad = f"{stats.retries:,} retries" if stats.retries else ""
            progress.update(task, completed=stats.done, rate=stats.done / max(stats.seconds, _LOOK), bad=bad)
            await asyncio.sleep(_LOOK)

"""``receiver prove``: test the guarantees under injected faults."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import uvloop
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from receiver.chaos.run import KINDS, RunPlan, run_chaos
from receiver.chaos.summary import RunSummary
from receiver.cli.options import json_option
from receiver.cli.output import console as output_console
from receiver.cli.output import echo_json, print_table
from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from rich.console import Console

    from receiver.chaos.run import RunOutcome

_WIDTH: Final = max(len(name) for kind in KINDS.values() for name in kind.faults)
_TITLES: Final = {
    "single": "Faults of one Redis",
    "replicas": "Faults with --replicas 1",
    "sentinel": "Faults with --sentinel",
    "cluster": "Faults with --cluster",
}


def _epilog() -> str:
    tables = (
        "\b\n" + "\n".join([f"{_TITLES[name]}:", *(f"  {f.name:<{_WIDTH}}  {f.what}" for f in kind.faults.values())])
        for name, kind in KINDS.items()
    )
    return "\n\n".join(tables)


@click.command(epilog=_epilog())
@click.option(
    "--replicas",
    type=click.IntRange(0, 1),
    default=0,
    show_default=True,
    help="Replicas of the Redis that confirm each batch (RECEIVER_REPLICAS). With 1, fail over to it.",
)
@click.option("--sentinel", is_flag=True, help="A primary, a replica and three Sentinels in place of one Redis.")
@click.option("--cluster", is_flag=True, help="A cluster of three primaries with a replica each in place of one Redis.")
@click.option("--minutes", default=3.0, show_default=True, type=click.FloatRange(0.1), help="Duration of the faults.")
@click.option("--seed", type=int, help="Seed to repeat a run. [default: random; it is printed]")
@click.option("--faults", "chosen", default="", help="Only these, comma-separated.")
@click.option("--rate", default=2500.0, show_default=True, type=click.FloatRange(1), help="Events a second.")
@click.option("--keep", is_flag=True, help="Keep the temporary folder with the logs and data of all processes.")
@json_option
def prove(  # noqa: PLR0913 an argument for each option
    *,
    replicas: int,
    sentinel: bool,
    cluster: bool,
    minutes: float,
    seed: int | None,
    chosen: str,
    rate: float,
    keep: bool,
    as_json: bool,
) -> None:
    """Prove the guarantees: no acknowledged event is lost or duplicated.

    Starts two receivers that share a spool folder, a Valkey, a faulty network between them, and a provider that posts
    and retries as Tencent does. --replicas, --sentinel and --cluster start other servers, with faults of their own, in
    place of the one Valkey. All of it runs in a temporary folder and on free loopback ports; REDIS_URL and other
    settings are ignored. Injects faults for the given time, then compares the acknowledged events with the streams.
    The exit code is 1 if an event is missing or duplicated, or an answer took longer than 2 s.
    """
    kind = _kind(replicas, sentinel=sentinel, cluster=cluster)
    faults = _choose(chosen, kind)
    seed = secrets.randbelow(10**6) if seed is None else seed
    console = output_console(stderr=as_json)
    console.print(f"seed {seed}, {minutes:g} minutes, {rate:,.0f} events/s; {kind}; faults: {', '.join(faults)}")
    folder = Path(tempfile.mkdtemp(prefix="receiver-prove-"))
    plan = RunPlan(kind, faults, minutes, seed, rate)
    complete = False
    try:
        report = RunSummary(_run(console, folder, plan), seed)
        complete = not report.lost_or_doubled
    finally:  # a run that fails, or that Ctrl-C ends, leaves its folder to be looked at
        _tidy(console, folder, keep=keep or not complete)
    if as_json:
        echo_json(report.values())
    else:
        print_table(report.table())
    if report.lost_or_doubled or report.slow:
        sys.exit(1)


def _kind(replicas: int, *, sentinel: bool, cluster: bool) -> str:
    chosen = [name for name, wanted in (("sentinel", sentinel), ("cluster", cluster)) if wanted]
    if len(chosen) > 1:
        raise click.UsageError("give --sentinel or --cluster, not both.")
    return chosen[0] if chosen else "replicas" if replicas else "single"


def _choose(chosen: str, kind: str) -> list[str]:
    faults = KINDS[kind].faults.values()
    available = [fault.name for fault in faults if sys.platform == "linux" or not fault.linux_only]
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    for name in names:
        if name not in available:
            raise ReceiverError(f"unknown fault: {name}; use some of: {', '.join(available)}")
    return names or available


def _run(console: Console, folder: Path, plan: RunPlan) -> RunOutcome:
    columns = (
        TextColumn("{task.description:<" + str(_WIDTH) + "}"),
        BarColumn(),
        TextColumn("{task.fields[acknowledged]:,} acknowledged"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("starting", total=60 * plan.minutes, acknowledged=0)

        def on_progress(fault: str, seconds: float, acknowledged: int) -> None:
            progress.update(bar, description=fault, completed=seconds, acknowledged=acknowledged)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run_chaos(folder, plan, on_progress))


def _tidy(console: Console, folder: Path, *, keep: bool) -> None:
    if keep:
        console.print(f"logs and data are kept in {folder}", soft_wrap=True)
        return
    shutil.rmtree(folder)

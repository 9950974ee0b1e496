"""How ``receiver simulate`` shows a run: its progress; at the end the answers, the retries, the latencies."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from receiver.cli.output import console, print_table, table
from receiver.redis_url import shown
from receiver.simulator.behaviour import ACKNOWLEDGED
from receiver.simulator.sender import CANNOT_CONNECT, TLS_FAILED, UNKNOWN_HOST

if TYPE_CHECKING:
    from receiver.simulator.sender import RunStats

#: Seconds between two looks at the progress.
_LOOK: Final = 0.1
#: What is most likely behind an outcome that went on to the end.
_HINTS: Final = {
    CANNOT_CONNECT: "Nothing listens at that URL: start `receiver serve`, or correct --url.",
    UNKNOWN_HOST: "This machine cannot resolve the name of the host: correct --url, DNS or /etc/hosts.",
    TLS_FAILED: "The port speaks no TLS, or its certificate is not trusted here: SSL_CERT_FILE names one to trust.",
    "HTTP 401": "The service wants a key (--url 'http://…/sms/callback?key=…'), or the signature of another secret. "
    "--env-file reads those of a service.",
    "HTTP 403": "This machine's address is in none of the project's allowed_networks.",
    "HTTP 404": "There is no such project, or no default one: correct the path in --url.",
    "HTTP 503": "Neither Redis nor the spool took events, or the service was overloaded: see its log and /readyz.",
}


async def show_progress(total: int, stats: RunStats) -> None:
    """Show on a terminal how far a run is, until it is cancelled; ``total`` 0 stands for an endless run."""
    out = console(stderr=True)
    columns = (
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.completed:,.0f} callbacks"),
        TextColumn("[green]{task.fields[rate]:,.0f}/s"),
        TextColumn("[red]{task.fields[bad]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("", total=total or None, rate=0.0, bad="")
        while True:
            bad = f"{stats.retries:,} retries" if stats.retries else ""
            progress.update(task, completed=stats.done, rate=stats.done / max(stats.seconds, _LOOK), bad=bad)
            await asyncio.sleep(_LOOK)


def summary(url: str, stats: RunStats) -> dict[str, object]:
    """Return the figures of a run, for programs."""
    return {
        "url": shown(url),
        "seconds": round(stats.seconds, 3),
        "callbacks": stats.sent,
        "acknowledged": stats.acknowledged,
        "given_up": stats.given_up,
        "retries": stats.retries,
        "duplicates_sent": stats.duplicates,
        "events_acknowledged": stats.events,
        "invalid_items_acknowledged": stats.rejected,
        "pending_items_acknowledged": stats.pending,
        "callbacks_per_second": round(stats.acknowledged / stats.seconds, 1),
        "events_per_second": round(stats.events / stats.seconds, 1),
        "answers": dict(stats.outcomes.most_common()),
        "latency_ms": stats.percentiles(),
    }


def print_summary(url: str, stats: RunStats) -> None:
    """Print the figures of a run, and what to do when not all was acknowledged."""
    out = console()
    answers = table("answer", "times", right=("times",))
    for outcome, times in stats.outcomes.most_common():
        answers.add_row(outcome, f"{times:,}", style="green" if outcome == ACKNOWLEDGED else "red")
    out.print(shown(url), style="dim", soft_wrap=True)
    print_table(answers)
    per_second = stats.seconds or 1
    figures = Table.grid(padding=(0, 3))
    figures.add_column(style="dim")
    figures.add_row("callbacks", f"{stats.sent:,} sent, {stats.acknowledged:,} acknowledged, {_red(stats.given_up)}")
    figures.add_row("sent again", f"{stats.retries:,} retries, {stats.duplicates:,} duplicates")
    figures.add_row("events", f"{stats.events:,} acknowledged" + _others(stats))
    figures.add_row(
        "speed", f"{stats.acknowledged / per_second:,.0f} callbacks/s, {stats.events / per_second:,.0f} events/s"
    )
    latency = ", ".join(f"{name} {value:,.1f} ms" for name, value in stats.percentiles().items())
    figures.add_row("latency", latency or "no answer")
    figures.add_row("time", f"{stats.seconds:,.1f} s")
    print_table(figures)
    for outcome in stats.outcomes if stats.given_up else ():
        if outcome in _HINTS:
            out.print(f"\n{_HINTS[outcome]}", style="yellow")


def _others(stats: RunStats) -> str:
    pending = f", {stats.pending:,} states that are not final" if stats.pending else ""
    return pending + (f", and {stats.rejected:,} invalid items into the quarantine" if stats.rejected else "")


def _red(given_up: int) -> str:
    return f"[red]{given_up:,} given up[/red]" if given_up else "0 given up"

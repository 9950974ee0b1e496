"""What a simulated provider has seen: the answers, the retries, the latencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console
from rich.table import Table

from receiver.cli.connections import shown
from receiver.cli.provider.pushing import ACKNOWLEDGED

if TYPE_CHECKING:
    from receiver.cli.provider.pushing import Tally

#: What is most likely behind an outcome that went on to the end.
_HINTS: Final = {
    "cannot connect": "Nothing listens at that URL: start `receiver serve`, or correct --url.",
    "HTTP 401": "The service wants a key: give --url 'http://…/sms/callback?key=…'.",
    "HTTP 403": "This machine's address is in none of the project's allowed_networks.",
    "HTTP 404": "There is no such project, or no default one: correct the path in --url.",
    "HTTP 503": "Neither Redis nor the spool took events, or the service was overloaded: see its log and /readyz.",
}


def summary(url: str, tally: Tally) -> dict[str, object]:
    """Return the figures of a run, for programs."""
    return {
        "url": shown(url),
        "seconds": round(tally.seconds, 3),
        "callbacks": tally.sent,
        "acknowledged": tally.acknowledged,
        "given_up": tally.given_up,
        "retries": tally.retries,
        "duplicates_sent": tally.duplicates,
        "events_acknowledged": tally.events,
        "invalid_items_acknowledged": tally.rejected,
        "callbacks_per_second": round(tally.acknowledged / tally.seconds, 1),
        "events_per_second": round(tally.events / tally.seconds, 1),
        "answers": dict(tally.outcomes.most_common()),
        "latency_ms": tally.percentiles(),
    }


def print_summary(url: str, tally: Tally) -> None:
    """Print the figures of a run, and what to do when not all was acknowledged."""
    console = Console(highlight=False)
    table = Table("answer", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("times", justify="right")
    for outcome, times in tally.outcomes.most_common():
        table.add_row(outcome, f"{times:,}", style="green" if outcome == ACKNOWLEDGED else "red")
    console.print(shown(url), style="dim", soft_wrap=True)
    console.print(table)
    per_second = tally.seconds or 1
    figures = Table.grid(padding=(0, 3))
    figures.add_column(style="dim")
    figures.add_row("callbacks", f"{tally.sent:,} sent, {tally.acknowledged:,} acknowledged, {_red(tally.given_up)}")
    figures.add_row("sent again", f"{tally.retries:,} retries, {tally.duplicates:,} duplicates")
    figures.add_row("events", f"{tally.events:,} acknowledged" + _invalid(tally))
    figures.add_row(
        "speed", f"{tally.acknowledged / per_second:,.0f} callbacks/s, {tally.events / per_second:,.0f} events/s"
    )
    latency = ", ".join(f"{name} {value:,.1f} ms" for name, value in tally.percentiles().items())
    figures.add_row("latency", latency or "no answer")
    figures.add_row("time", f"{tally.seconds:,.1f} s")
    console.print(figures)
    for outcome in tally.outcomes if tally.given_up else ():
        if outcome in _HINTS:
            console.print(f"\n{_HINTS[outcome]}", style="yellow")


def _invalid(tally: Tally) -> str:
    return f", and {tally.rejected:,} invalid items into the quarantine" if tally.rejected else ""


def _red(given_up: int) -> str:
    return f"[red]{given_up:,} given up[/red]" if given_up else "0 given up"

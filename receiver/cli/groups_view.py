"""How ``receiver groups`` shows consumer groups: a table, what holds back the trimming, and the command that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from rich.text import Text

from receiver.cli.formatting import counted, elapsed, safe, times
from receiver.cli.output import console, echo_json, place, print_table, table
from receiver.streams.backlog import MANY_DELIVERIES
from receiver.units import duration

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Mapping

    from receiver.streams.backlog import Backlog, Oldest

_COLUMNS: Final = ("topic", "group", "lag", "pending", "oldest", "consumer", "has", "idle")
_NUMBERS: Final = ("lag", "pending", "has")
#: Seconds without a delivery after which ``receiver groups dead-letter`` puts an entry aside.
DEAD_LETTER_IDLE: Final = 60
#: Milliseconds without a delivery after which a pending entry counts as stuck.
STUCK_MS: Final = 5 * 60_000


def backlogs_as_json(backlogs: Iterable[Backlog], retention: float) -> Iterator[dict[str, Any]]:
    """Yield the backlogs as JSON values. ``retention`` is in seconds."""
    backlogs = list(backlogs)
    holding = _holding(backlogs, retention)
    for one in backlogs:
        yield {
            **place(one.topic),
            "group": one.group,
            "lag": one.lag,
            "pending": one.pending,
            "last_delivered_id": one.last_delivered_id,
            "oldest": None if one.oldest is None else one.oldest._asdict(),
            "failing": None if one.failing is None else one.failing._asdict(),
            "consumers": [consumer._asdict() for consumer in one.consumers],
            "holds_back_trimming": one in holding.values(),
        }


def print_backlogs(backlogs: list[Backlog], dead_letters: Mapping[str, int], retention: float, whose: str) -> None:
    """Print the table, then what is stuck, with the command that helps.

    ``dead_letters``: their number by topic. ``whose``: `` of project shop``, or nothing for several projects.
    """
    rows = table(*_COLUMNS, ids=_COLUMNS, right=_NUMBERS)
    for one in backlogs:
        consumers = [(safe(each.consumer), f"{each.pending:,}", elapsed(each.idle_ms / 1000)) for each in one.consumers]
        oldest = "" if one.oldest is None else elapsed(one.oldest.age_ms / 1000)
        lag = "?" if one.lag is None else f"{one.lag:,}"
        first, *others = consumers or [("none", "", "")]
        rows.add_row(one.topic, Text(safe(one.group)), lag, f"{one.pending:,}", oldest, *map(Text, first))
        for other in others:
            rows.add_row("", "", "", "", "", *map(Text, other))
    out = console()
    if not backlogs:
        out.print(f"No topic{whose} has a consumer group. `receiver groups create` makes one.", soft_wrap=True)
        return
    print_table(rows)
    for topic, count in dead_letters.items():
        if count:
            out.print(f"{topic} has {counted(count, 'dead letter')}.", style="yellow", soft_wrap=True)
    for line in _advice(backlogs, retention):
        out.print(line, soft_wrap=True)


def print_counts(counts: Counter[str], what: str) -> None:
    """Print with how many entries of each stream something was done."""
    for topic, count in (+counts).items():
        click.echo(f"{topic}  {counted(count, 'entry', 'entries')} {what}.")
    if not counts.total():
        click.echo("No entry is stuck so long: --min-idle and --deliveries choose which are.")


def print_counts_as_json(counts: Counter[str], **about: str | bool) -> None:
    """Print the same as JSON, with what it is ``about``."""
    for topic, count in (+counts).items():
        echo_json(place(topic) | about | {"entries": count})


def _advice(backlogs: list[Backlog], retention: float) -> Iterator[Text]:
    holding = _holding(backlogs, retention)
    for one in backlogs:
        holds = one in holding.values()
        stuck = one.oldest is not None and (holds or (one.oldest.idle_ms or 0) >= STUCK_MS)
        if one.oldest is not None and stuck:
            yield _line(one, one.oldest, " It holds back the trimming of the topic." if holds else "")
        if one.failing is not None and not (stuck and one.failing == one.oldest):
            yield _line(one, one.failing)
    if not holding:
        kept = f"RECEIVER_RETENTION ({duration(retention)})"
        yield Text(f"Nothing holds back the trimming: no group is more than {kept} behind.", "dim")


def _line(one: Backlog, entry: Oldest, holds: str = "") -> Text:
    return Text.assemble(
        (safe(one.group), "bold yellow"),
        f" has not acknowledged {entry.entry_id} of {one.topic}, {elapsed(entry.age_ms / 1000)} old, ",
        f"{_where(entry)}.{holds}\n  → {_help(one, entry)}",
    )


def _where(oldest: Oldest) -> str:
    if oldest.consumer is None:
        return "which it has not read"
    idle = elapsed((oldest.idle_ms or 0) / 1000)
    delivered = times(oldest.deliveries or 0)
    return f"which is pending with {safe(oldest.consumer)}, idle for {idle}, delivered {delivered}"


def _help(one: Backlog, oldest: Oldest) -> str:
    of_topic = f"{safe(one.group)} --topic {one.topic}"  # whole: its name alone is one of each project
    if oldest.consumer is None:
        return (
            "Start its consumers. If nobody needs the group any more, remove it: "
            f"redis-cli XGROUP DESTROY {one.topic} {safe(one.group)}"
        )
    if (oldest.deliveries or 0) >= MANY_DELIVERIES:
        young = (oldest.idle_ms or 0) < DEAD_LETTER_IDLE * 1000  # its consumer fails on it over and over
        return f"receiver groups dead-letter {of_topic}{' --min-idle 0s' if young else ''}"
    return f"receiver groups claim {of_topic} --from {safe(oldest.consumer)} --to CONSUMER"


def _holding(backlogs: Iterable[Backlog], retention: float) -> dict[str, Backlog]:
    """Return, for each topic, the group that is furthest behind, if that is further than the retention."""
    holding: dict[str, Backlog] = {}
    for one in backlogs:
        if one.oldest is None or one.oldest.age_ms <= retention * 1000:
            continue
        before = holding.get(one.topic)
        if before is None or before.oldest is None or before.oldest.age_ms < one.oldest.age_ms:
            holding[one.topic] = one
    return holding

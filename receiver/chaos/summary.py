"""The result of a run, as a table and as JSON values."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

if TYPE_CHECKING:
    from receiver.chaos.ack_log import Segment
    from receiver.chaos.run import RunOutcome

#: Seconds within which a running service has to answer.
SLOWEST_ANSWER: Final = 2.0
_SHOWN: Final = 100


@dataclass(frozen=True)
class Row:
    """The line of one fault. Times are in milliseconds, of callbacks sent during the fault."""

    fault: str
    injected: int
    events_acknowledged: int
    missing: int
    doubled: int
    longest_ms: float
    p99_ms: float
    refused: int
    broken: int
    unanswered: int


class RunSummary:
    """The outcome of a run, by the fault during which each event was sent."""

    def __init__(self, outcome: RunOutcome, seed: int) -> None:
        self.outcome = outcome
        self.seed = seed
        ack_log, comparison = outcome.ack_log, outcome.comparison
        missing = Counter(ack_log.segment_of(number).fault for number in comparison.missing)
        doubled = Counter(ack_log.segment_of(number).fault for number in comparison.doubled)
        self.rows = [_row(segment, missing[segment.fault], doubled[segment.fault]) for segment in ack_log.segments]

    @property
    def lost_or_doubled(self) -> bool:
        """Whether a guarantee is broken."""
        return not (self.outcome.comparison.holds and self.outcome.settled)

    @property
    def slow(self) -> bool:
        """Whether an answer took too long."""
        return any(row.longest_ms > 1000 * SLOWEST_ANSWER or row.unanswered for row in self.rows)

    def values(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        outcome = self.outcome
        return {
            "seed": self.seed,
            "seconds": round(outcome.seconds, 1),
            "events_acknowledged": outcome.ack_log.acknowledged,
            "entries": outcome.comparison.entries,
            "missing": len(outcome.comparison.missing),
            "doubled": len(outcome.comparison.doubled),
            "missing_events": outcome.comparison.missing[:_SHOWN],
            "doubled_events": outcome.comparison.doubled[:_SHOWN],
            "strange": outcome.comparison.strange,
            "settled": outcome.settled,
            "faults": [asdict(row) for row in self.rows],
        }

    def table(self) -> Table:
        """Return the table."""
        table = Table(
            caption=self._sentence(),
            caption_justify="left",
            show_footer=True,
            box=None,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        rows, comparison = self.rows, self.outcome.comparison
        table.add_column("fault", "together", no_wrap=True, min_width=25)
        for title, footer in (
            ("times", sum(row.injected for row in rows)),
            ("events acked", self.outcome.ack_log.acknowledged),
            ("lost", len(comparison.missing)),
            ("twice", len(comparison.doubled)),
            ("longest ack, ms", round(max(row.longest_ms for row in rows))),
            ("p99, ms", ""),
            ("503s", sum(row.refused for row in rows)),
            ("cut off", sum(row.broken for row in rows)),
        ):
            table.add_column(title, f"{footer:,}" if isinstance(footer, int) else footer, justify="right")
        for row in sorted(rows, key=lambda row: row.fault):
            table.add_row(
                row.fault,
                str(row.injected or ""),
                f"{row.events_acknowledged:,}",
                str(row.missing),
                str(row.doubled),
                f"{row.longest_ms:,.0f}",
                f"{row.p99_ms:,.1f}",
                str(row.refused),
                str(row.broken),
            )
        return table

    def _sentence(self) -> str:
        outcome = self.outcome
        text = (
            f"{outcome.ack_log.acknowledged:,} events acknowledged in {outcome.seconds:.0f} s, "
            f"{outcome.comparison.entries:,} in the streams; seed {self.seed}."
        )
        if not outcome.settled:
            text += " The spool did not drain."
        if outcome.comparison.strange:
            text += f" {outcome.comparison.strange} entries that nobody sent."
        if self.slow:
            text += f" Some answers took longer than {SLOWEST_ANSWER:g} s, or never came."
        return text


def _row(segment: Segment, missing: int, doubled: int) -> Row:
    return Row(
        fault=segment.fault,
        injected=segment.injected,
        events_acknowledged=segment.acknowledged,
        missing=missing,
        doubled=doubled,
        longest_ms=round(1000 * segment.longest(), 1),
        p99_ms=round(1000 * segment.percentile(0.99), 1),
        refused=sum(len(times) for times in segment.refusals.values()),
        broken=segment.broken,
        unanswered=segment.unanswered,
    )

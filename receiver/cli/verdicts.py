"""Tells how work on many items goes: a progress bar, the items that need a look, and a summary."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import TaskID
from rich.text import Text

from receiver.cli.event_lines import echo_json, safe
from receiver.cli.progress import bar
from receiver.cli.quarantined import DROPPED, PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.cli.quarantined import Verdict

#: Items that are told one by one; of more than this a person wants the number.
_MOST_TOLD: Final = 20
#: What needs no look.
_GOOD: Final = (PUBLISHED, DROPPED)


class Verdicts:
    """What became of items, told as it comes."""

    def __init__(self, what: str, *, as_json: bool) -> None:
        """Take what is being done; with ``as_json`` every verdict is told, one object a line."""
        self._what = what
        self._as_json = as_json
        self._counts: Counter[str] = Counter()
        self._told = 0
        self._console = Console(highlight=False, stderr=as_json)
        self._bar = bar(self._console)
        self._task = TaskID(0)

    @contextmanager
    def progress(self, total: int) -> Iterator[None]:
        """Show a bar for so many items meanwhile."""
        self._task = self._bar.add_task(self._what, total=total)
        with self._bar:
            yield

    def tell(self, verdicts: list[Verdict]) -> None:
        """Count verdicts, and print those that a person has to look at."""
        for verdict in verdicts:
            self._counts[verdict.outcome] += 1
            if self._as_json:
                echo_json(verdict._asdict())
            elif verdict.outcome not in _GOOD:
                self._tell_one(verdict)
        self._bar.advance(self._task, len(verdicts))

    def end(self) -> Counter[str]:
        """Print the summary, and return the counts by outcome."""
        if not self._as_json:
            summary = ", ".join(f"{count:,} {outcome}" for outcome, count in self._counts.most_common())
            self._console.print(f"{summary or 'There was nothing to do'}.")
        return self._counts

    def _tell_one(self, verdict: Verdict) -> None:
        self._told += 1
        if self._told <= _MOST_TOLD:
            why = f": {safe('; '.join(verdict.reasons))}" if verdict.reasons else ""
            self._console.print(Text.assemble(verdict.id, " ", (verdict.outcome, "yellow"), why))
        elif self._told == _MOST_TOLD + 1:
            self._console.print("… and more: see `receiver quarantine list`.", style="dim")

"""Shows progress on many items: a bar, the items that need attention, and a summary."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.progress import TaskID
from rich.text import Text

from receiver.cli.formatting import safe
from receiver.cli.output import console, echo_json, place
from receiver.cli.progress import bar
from receiver.cli.quarantine_store import DROPPED, PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.cli.quarantine_store import RetryResult

#: Items printed one by one; beyond that only their number is shown.
_MAX_PRINTED: Final = 20
#: Outcomes that need no attention.
_GOOD: Final = (PUBLISHED, DROPPED)


def _as_json(result: RetryResult) -> dict[str, object]:
    where = {"project_id": None, "topic_urn": None} if result.topic is None else place(result.topic)
    return {**where, "entry_id": result.id, "outcome": result.outcome, "reasons": result.reasons}


class RetryProgress:
    """Prints results as they arrive, and counts them."""

    def __init__(self, what: str, *, as_json: bool) -> None:
        """Label the bar with ``what``. With ``as_json``, print every result as one JSON object a line."""
        self._what = what
        self._as_json = as_json
        self._counts: Counter[str] = Counter()
        self._printed = 0
        self._console = console(stderr=as_json)
        self._bar = bar(self._console)
        self._task = TaskID(0)

    @contextmanager
    def progress(self, total: int) -> Iterator[None]:
        """Show a bar for ``total`` items, inside the ``with`` block."""
        self._task = self._bar.add_task(self._what, total=total)
        with self._bar:
            yield

    def add(self, results: list[RetryResult]) -> None:
        """Count results, and print those that need attention."""
        for result in results:
            self._counts[result.outcome] += 1
            if self._as_json:
                echo_json(_as_json(result))
            elif result.outcome not in _GOOD:
                self._print(result)
        self._bar.advance(self._task, len(results))

    def end(self) -> Counter[str]:
        """Print the summary, and return the counts by outcome."""
        if not self._as_json:
            summary = ", ".join(f"{count:,} {outcome}" for outcome, count in self._counts.most_common())
            self._console.print(f"{summary or 'There was nothing to do'}.")
        return self._counts

    def _print(self, result: RetryResult) -> None:
        self._printed += 1
        if self._printed <= _MAX_PRINTED:
            reasons = f": {safe('; '.join(result.reasons))}" if result.reasons else ""
            line = Text.assemble(result.id, " ", (result.outcome, "yellow"), reasons)
            self._console.print(line, soft_wrap=True)  # a reason may name a topic
        elif self._printed == _MAX_PRINTED + 1:
            self._console.print("… and more: see `receiver quarantine list`.", style="dim")

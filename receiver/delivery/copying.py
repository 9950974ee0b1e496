"""Copies what can be read of one spool file into another, in steps, each of them synced."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.spool.recovery import Readable
    from receiver.events import Entry


class Copying:
    """The way of the entries from one file to another. What is copied twice is published once."""

    def __init__(self, source: Readable, add: Callable[[list[Entry]], None]) -> None:
        """Take what is read, and what makes entries durable elsewhere."""
        self.source = source
        self.copied = 0
        self._add = add
        self._held: list[Entry] = []

    @property
    def outcome(self) -> dict[str, int]:
        """How many events were copied, and how many places could not be read."""
        return {"copied_events": self.copied, "unreadable_events": self.source.unreadable}

    def step(self) -> bool:
        """Copy some; return whether there may be more. Raises sqlite3.Error; the next step then tries them again."""
        self._held = self._held or self.source.step()
        if self._held:
            self._add(self._held)
            self.copied += len(self._held)
            self._held = []
        return not self.source.done

"""The way out of a file that is no longer in its folder: only this process, which holds it open, can still read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from receiver.delivery.copying import Copying

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.spool.file import SpoolFile
    from receiver.events import Entry


class Refuge:
    """Copies what a lost file holds to where others find it. Blocking: use it in a thread."""

    def __init__(self, lost: SpoolFile, add: Callable[[list[Entry]], None]) -> None:
        """Take the file, and what makes entries durable elsewhere."""
        self.lost = lost
        self.copying = Copying(lost.readable(), add)

    def step(self) -> bool:
        """Copy some; return whether there may be more. Raises sqlite3.Error; the next step then tries them again."""
        return self.lost.opened and self.copying.step()

    def finish(self) -> None:
        """Let the file go. Where only its log or its lock was removed, the rest of it is no longer needed either."""
        if self.copying.source.unreadable == 0:
            self.lost.discard()
        self.lost.close()

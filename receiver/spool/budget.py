"""How the bytes of one process's spool are shared out, so that the sum of its files stays below the cap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.events import Entry

PAGE: Final = 4096
#: A file gets at least this much, however many workers share the cap.
_MIN_BYTES: Final = 256 << 10
_MAX_LOG: Final = 64 << 20
_CHECKPOINT: Final = 4 << 20
_MAX_READ: Final = 8 << 20
#: The index of the log takes 32 KiB for each 16 MiB of it.
_INDEX: Final = 64 << 10
_RESUME: Final = 16 << 20
#: Bytes of a row beside its topic and data, and of the pages above the rows that a transaction changes.
_ROW: Final = 64
_INNER_PAGES: Final = 8 * PAGE


class Budget:
    """What each part of a spool file may take."""

    def __init__(self, max_bytes: int) -> None:
        """Take the cap on the sum of the database, its write-ahead log and the log's index."""
        max_bytes = max(max_bytes, _MIN_BYTES)
        self.log = min(max_bytes // 4, _MAX_LOG)
        self.data = max_bytes - self.log - self.log // 64 - _INDEX
        #: The length of the log at which it is copied into the database.
        self.checkpoint = min(self.log // 2, _CHECKPOINT)
        #: Bytes of entries to read at a time: they may have to be written again.
        self.read = min(self.log // 4, _MAX_READ)
        #: Room that a full file must have before it takes events again: with less it would flap with every batch.
        self.resume = max(self.data // 10, min(self.data // 2, _RESUME))

    def batches(self, entries: list[Entry], needed: int) -> Iterator[list[Entry]]:
        """Split entries so that the log can hold each part: as a rule there is one. A large entry goes alone."""
        if needed <= self.log:
            yield entries
            return
        batch: list[Entry] = []
        room = self.log - _INNER_PAGES
        for entry in entries:
            size = _row_bytes([entry])
            if batch and size > room:
                yield batch
                batch, room = [], self.log - _INNER_PAGES
            batch.append(entry)
            room -= size
        yield batch


def bytes_needed(entries: list[Entry]) -> int:
    """Return how much entries may take at most."""
    return _INNER_PAGES + _row_bytes(entries)


def _row_bytes(entries: list[Entry]) -> int:
    # Twice what they hold: a row of little more than half a page fills one.
    return 2 * (sum([len(entry.data) + len(entry.topic) for entry in entries]) + _ROW * len(entries))

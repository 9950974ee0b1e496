"""Divides the bytes of one process's spool, so that the sum of its files stays below the cap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.events import Entry

PAGE: Final = 4096
#: The least that a file gets, however many workers share the cap.
_MIN_BYTES: Final = 256 << 10
_MAX_LOG: Final = 64 << 20
_CHECKPOINT: Final = 4 << 20
_MAX_READ: Final = 8 << 20
#: The index of the log takes 32 KiB for each 16 MiB of the log.
_INDEX: Final = 64 << 10
_RESUME: Final = 16 << 20
#: Bytes of a row in addition to its topic and data, and of the inner pages that a transaction changes.
_ROW: Final = 64
_INNER_PAGES: Final = 8 * PAGE


class Budget:
    """The bytes that each part of a spool file may take."""

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes`` bounds the sum of the database, its write-ahead log and the log's index."""
        max_bytes = max(max_bytes, _MIN_BYTES)
        self.log = min(max_bytes // 4, _MAX_LOG)
        self.data = max_bytes - self.log - self.log // 64 - _INDEX
        #: The log length at which a checkpoint copies the log into the database.
        self.checkpoint = min(self.log // 2, _CHECKPOINT)
        #: Bytes of entries to read at a time: parking or copying them writes them again.
        self.read = min(self.log // 4, _MAX_READ)
        #: Free bytes at which a full file takes events again. With fewer its state would flap with every batch.
        self.resume = max(self.data // 10, min(self.data // 2, _RESUME))

    def batches(self, entries: list[Entry], needed: int) -> Iterator[list[Entry]]:
        """Split entries so that the log can hold each part. Usually there is one part; a large entry goes alone."""
        if needed <= self.log:
            yield entries
            return
        batch: list[Entry] = []
        left = self.log - _INNER_PAGES
        for entry in entries:
            size = _row_bytes([entry])
            if batch and size > left:
                yield batch
                batch, left = [], self.log - _INNER_PAGES
            batch.append(entry)
            left -= size
        yield batch


def bytes_needed(entries: list[Entry]) -> int:
    """Return an upper bound of the bytes that entries take."""
    return _INNER_PAGES + _row_bytes(entries)


def _row_bytes(entries: list[Entry]) -> int:
    # Twice their content: a row a little larger than half a page fills a page.
    return 2 * (sum([len(entry.data) + len(entry.topic) for entry in entries]) + _ROW * len(entries))

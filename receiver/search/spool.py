"""Searches the spool files of this machine without changing them, those of a running service as well. Blocking."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, NamedTuple

from receiver.spool.directory import files_set_aside, spool_files, suspect_files
from receiver.spool.status import readable
from receiver.streams.stored_event import StoredEvent, decode_event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from receiver.events import Entry
    from receiver.search.wanted import Wanted


class SpooledMatch(NamedTuple):
    """An event on disk that is about what is wanted. The events of a file that was set aside were copied."""

    path: Path
    topic: str
    data: bytes
    event: StoredEvent


class SpoolSearch:
    """Searches all files of a folder, up to a time."""

    def __init__(self, folder: Path, wanted: Wanted, *, limit: int, ends_at: float | None = None) -> None:
        """``limit``: events to find, at most. ``ends_at`` is on the clock of ``time.monotonic``."""
        self._folder = folder
        self._wanted = wanted
        self._limit = limit
        self._ends_at = ends_at
        #: Whether there is a spool: another machine has none of the service's.
        self.has_folder = True
        #: Why some events were not looked at.
        self.problems: list[str] = []

    def search(self) -> list[SpooledMatch]:
        """Return the events found. ``problems`` then has a sentence for each file that was not searched to its end."""
        found: list[SpooledMatch] = []
        for path in self._files():
            try:
                for spooled in self._search(path):
                    found.append(spooled)
                    if len(found) == self._limit:
                        return found
            except (OSError, sqlite3.Error) as error:
                self.problems.append(f"{path} cannot be read: {error}")
        return found

    def _files(self) -> list[Path]:
        try:
            next(self._folder.iterdir(), None)  # glob is silent about a folder that cannot be read
        except (FileNotFoundError, NotADirectoryError):
            self.has_folder = False
        except OSError as error:
            self.problems.append(f"cannot read {self._folder}: {error.strerror}")
        return [*spool_files(self._folder), *suspect_files(self._folder), *files_set_aside(self._folder)]

    def _search(self, path: Path) -> Iterator[SpooledMatch]:
        with readable(path) as reader:
            while not reader.done:
                if self._ends_at is not None and time.monotonic() >= self._ends_at:
                    self.problems.append(f"{path} was not searched to its end: it holds too much for the time")
                    return
                for entry in reader.step():
                    spooled = self._spooled(path, entry)
                    if spooled is not None:
                        yield spooled
            if not reader.complete:
                self.problems.append(f"{path} is damaged: some of it cannot be read")

    def _spooled(self, path: Path, entry: Entry) -> SpooledMatch | None:
        if not self._wanted.may_be(entry.data):
            return None
        event = decode_event(entry.data)
        if event is None or not self._wanted.matches(event):
            return None
        return SpooledMatch(path, entry.topic, entry.data, event)

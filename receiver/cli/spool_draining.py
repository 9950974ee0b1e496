"""Empties spool files that no living process holds, as the service would."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from receiver.cli.spool_files import status
from receiver.delivery.drain import BATCH
from receiver.delivery.spool_file import lock_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from receiver.delivery.groups import NotTakenError
    from receiver.delivery.publisher import Publisher
    from receiver.delivery.spool_file import Spooled, SpoolFile


class Draining:
    """Publishes files one after the other, a batch at a time, and keeps count."""

    def __init__(self, publisher: Publisher, max_bytes: int, progress: Progress) -> None:
        """Take the publisher, the most bytes of a file, and the bar on which to show how it goes."""
        self.published = 0
        self.problems: list[str] = []
        self._publisher = publisher
        self._max_bytes = max_bytes
        self._progress = progress

    async def drain(self, path: Path) -> None:
        """Publish a file's events; what stands in the way of some is in ``problems``. Raises NotTakenError."""
        try:
            task = self._progress.add_task(path.name, total=status(path).events)
            spool_file = lock_file(path.parent, int(path.stem), self._max_bytes)
            if spool_file is None:
                self.problems.append(f"{path.name} is in use by a living process, which drains it itself.")
                return
            with closing(spool_file):
                await self._drain(spool_file, task)
        except (OSError, sqlite3.Error) as error:
            self.problems.append(f"{path.name} cannot be drained: {error}.")

    async def _drain(self, spool_file: SpoolFile, task: TaskID) -> None:
        # Those put aside come first: they are the oldest, and what is put aside now is not tried twice.
        while parked := spool_file.oldest(BATCH, "parked"):
            blocked = await self._publish(spool_file, parked, "parked", task)
            if blocked:
                break
        while batch := spool_file.oldest(BATCH):
            blocked = await self._publish(spool_file, batch, "entries", task)
            if blocked:
                spool_file.park([one for one in batch if one.entry.topic in blocked])
        left = spool_file.count()
        if left:
            self.problems.append(f"{spool_file.path.name}: {left:,} events stay, for their topics do not take them.")
        spool_file.shrink()

    async def _publish(
        self, spool_file: SpoolFile, batch: list[Spooled], table: str, task: TaskID
    ) -> Mapping[str, NotTakenError]:
        blocked = await self._publisher.write([one.entry for one in batch], asyncio.get_running_loop().time())
        safe = [one for one in batch if one.entry.topic not in blocked]
        spool_file.remove(safe, table)
        self.published += len(safe)
        self._progress.advance(task, len(safe))
        self.problems += [str(error) for error in blocked.values() if str(error) not in self.problems]
        return blocked

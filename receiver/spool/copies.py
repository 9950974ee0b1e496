"""Copies the events of files that this process can write to no more: moved ones, and suspect ones of any process."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

from receiver.spool.directory import suspect_files
from receiver.spool.recovery import Recovery, RowReader, SuspectFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from receiver.events import Entry
    from receiver.log import Logger
    from receiver.spool.file import SpoolFile

_ADVICE: Final = "the readable events were copied; for the rest keep it, and try `sqlite3 FILE .recover` on a copy"


class Copies:
    """The copies under way. Each goes into the file that events are added to now."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        run: Callable[..., Awaitable[Any]],
        add: Callable[[list[Entry]], None],
        logger: Logger,
    ) -> None:
        """``run`` does blocking work in the spool's thread; ``add`` makes entries durable there."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._run = run
        self._add = add
        self._logger = logger
        self._moved: list[tuple[SpoolFile, Recovery]] = []
        self._suspects: dict[Path, SuspectFile] = {}
        self._delayed: dict[Path, str] = {}

    @property
    def moved(self) -> int:
        """The number of moved files that are not copied yet. No other process can read them."""
        return len(self._moved)

    def add_moved(self, file: SpoolFile) -> None:
        """Take over a file that has left its folder."""
        self._moved.append((file, Recovery(RowReader(*file.remaining(), self._max_bytes))))

    async def copy_all(self) -> None:
        """Copy every file, as far as the disk lets it: after an error, such as a full disk, the next call continues."""
        for moved in [*self._moved]:
            await self._attempt(moved[0].path, self._copy_moved(*moved))
        await self._attempt(self._folder, self._copy_suspects())

    async def copy_moved(self) -> None:
        """Copy the moved files. Raises OSError and sqlite3.Error."""
        for moved in [*self._moved]:
            await self._copy_moved(*moved)

    async def close(self) -> None:
        """Close the files that are not copied."""
        for file, _ in self._moved:
            await self._run(file.close)
        for suspect in self._suspects.values():
            await self._run(suspect.close)

    async def _copy_moved(self, file: SpoolFile, recovery: Recovery) -> None:
        await self._copy(recovery)
        self._moved.remove((file, recovery))
        await self._run(file.close)
        self._logger.error("spool.copied", copied_events=recovery.copied, complete=recovery.reader.complete)

    async def _copy_suspects(self) -> None:
        for path in await self._run(suspect_files, self._folder):
            await self._attempt(path, self._copy_suspect(path))

    async def _copy_suspect(self, path: Path) -> None:
        suspect: SuspectFile | None = self._suspects.get(path)
        suspect = suspect or await self._run(SuspectFile.open, path, self._max_bytes)
        if suspect is None:
            return
        self._suspects[path] = suspect
        await self._copy(suspect)
        aside = await self._run(suspect.finish)
        del self._suspects[path]
        await self._run(suspect.close)
        if aside is not None:
            outcome = {"copied_events": suspect.copied, "complete": suspect.reader.complete}
            self._logger.error("spool.set_aside", file=aside.name, **outcome, advice=_ADVICE)

    async def _copy(self, recovery: Recovery) -> None:
        while await self._run(recovery.step, self._add):
            pass

    async def _attempt(self, path: Path, copying: Coroutine[None, None, None]) -> None:
        """Copy one file. Log each error once."""
        try:
            await copying
        except (OSError, sqlite3.Error) as error:
            if self._delayed.get(path) != str(error):
                self._delayed[path] = str(error)
                self._logger.warning("spool.recovery_delayed", file=path.name, error=str(error))
        else:
            self._delayed.pop(path, None)

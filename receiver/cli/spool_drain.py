"""Publishes the spool files that no running process uses, for ``receiver spool drain``."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from receiver.cli.connections import connected, publishing, with_window_in_force
from receiver.cli.output import console
from receiver.cli.progress import bar
from receiver.delivery.drain import FileDrain
from receiver.spool.directory import spool_files, suspect_files
from receiver.spool.errors import makes_suspect
from receiver.spool.file import free_file, lock_file
from receiver.spool.recovery import SuspectFile
from receiver.spool.status import statuses

if TYPE_CHECKING:
    from pathlib import Path

    from receiver.settings import Settings
    from receiver.spool.file import SpoolFile


async def drain_files(settings: Settings, folder: Path) -> tuple[int, list[str]]:
    """Publish the events of a folder. Return their number, and the problems with others, in sentences.

    Raises RedisFailedError.
    """
    problems: list[str] = []
    async with connected(settings) as client, publishing(await with_window_in_force(client, settings)) as primaries:
        with bar(console(stderr=True)) as progress:
            paths = spool_files(folder)
            task = progress.add_task("draining", total=sum(one.events for one in statuses(paths)))

            async def on_progress(events: int) -> None:
                progress.advance(task, events)

            files = FileDrain(primaries, asyncio.to_thread, on_progress)
            for path in paths:
                progress.update(task, description=path.name)
                problems += await _drain_file(files, path, settings.spool_max_bytes)
            for path in suspect_files(folder):  # includes files just found damaged
                progress.update(task, description=path.name)
                problems += await _recover(files, path, settings.spool_max_bytes)
        return int(progress.tasks[0].completed), problems


async def _drain_file(files: FileDrain, path: Path, max_bytes: int) -> list[str]:
    try:
        spool_file = lock_file(path, max_bytes, to_drain=True)
        if spool_file is None:
            return [f"{path.name} is in use by a running process, which drains it itself."]
        with closing(spool_file):
            return await _drain_open(files, spool_file)
    except (OSError, sqlite3.Error) as error:
        return [f"{path.name} cannot be drained: {error}."]


async def _drain_open(files: FileDrain, spool_file: SpoolFile) -> list[str]:
    try:
        blocked = await files.drain(spool_file, parked=True)
        left = spool_file.count()
    except sqlite3.Error as error:
        if makes_suspect(error):
            spool_file.set_suspect()
        raise
    if not left:
        spool_file.discard()
        return []
    refused = f"{spool_file.path.name}: {left:,} events stay, because their topics refuse them."
    return [*map(str, blocked.values()), refused]


async def _recover(files: FileDrain, path: Path, max_bytes: int) -> list[str]:
    """Copy the readable events of a suspect file into another file, and drain that."""
    try:
        suspect = SuspectFile.open(path, max_bytes)
        if suspect is None:
            return [f"{path.name} is in use by a running process, which copies it itself."]
        with closing(suspect), closing(free_file(path.parent, max_bytes)) as other:
            while suspect.step(other.add):
                await files.drain(other, parked=False)
            aside = suspect.finish()
            problems = await _drain_open(files, other)
    except (OSError, sqlite3.Error) as error:
        return [f"{path.name} cannot be copied: {error}."]
    if aside is None:
        return problems
    missing = "" if suspect.reader.complete else "; some of it cannot be read"
    outcome = f"{suspect.copied:,} events of {path.name} were copied{missing}."
    advice = f"It is {aside.name} now: keep it, and try `sqlite3 {aside.name} .recover` on a copy for the rest."
    return [f"{outcome} {advice}", *problems]

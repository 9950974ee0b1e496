"""``receiver spool``: show, drain and export the events in the spool, without the service."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections import Counter
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from receiver.cli.connections import REDIS_TIMEOUT, connected, run
from receiver.cli.formatting import echo_json, moment
from receiver.cli.lazy_group import OrderedGroup
from receiver.cli.progress import bar
from receiver.delivery.drain import FileDrain
from receiver.delivery.publisher import Publisher
from receiver.errors import ReceiverError
from receiver.settings import read_settings
from receiver.spool.directory import files_set_aside, spool_files, suspect_files
from receiver.spool.errors import makes_suspect
from receiver.spool.file import free_file, lock_file
from receiver.spool.recovery import SuspectFile
from receiver.spool.status import FileStatus, readable, status

if TYPE_CHECKING:
    from receiver.settings import Settings
    from receiver.spool.file import SpoolFile


@click.group(
    cls=OrderedGroup,
    epilog="\b\nExamples:\n"
    "  receiver spool status                 number of events, by file and topic\n"
    "  receiver spool drain                  publish the events of a stopped service\n"
    "  receiver spool export > events.jsonl  save events without a Redis",
)
def spool() -> None:
    """Manage the events on disk that are not in Redis yet.

    A running service drains its spool by itself. These commands work on RECEIVER_DATA_DIR/spool without it.
    """


@spool.command("status")
@click.option("--json", "as_json", is_flag=True, help="The files as a JSON array.")
def status_(*, as_json: bool) -> None:
    """Show the files and their contents."""
    folder = _folder(read_settings(os.environ))
    found = [status(path) for path in _all_files(folder)]
    if as_json:
        echo_json([one._asdict() for one in found])
    elif not found:
        click.echo(f"There is no spool in {folder}.")
    else:
        _print_status(folder, found)
    if any(one.problem for one in found):
        sys.exit(1)


@spool.command()
def drain() -> None:
    """Publish the events of files that no running process uses.

    An event is deleted from the disk only once Redis has it, and Redis adds no duplicates. A file that is damaged, or
    had an I/O error, is set aside after its readable events are published.
    """
    settings = read_settings(os.environ)
    published, problems = run(_drain(settings))
    for problem in problems:
        click.echo(f"receiver: {problem}", err=True)
    click.echo(f"{published:,} events published.")
    if problems:
        sys.exit(1)


@spool.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    default="-",
    help="A new file. [default: stdout]",
)
def export(*, output: Path) -> None:
    """Write the events as JSON lines, without removing them.

    Unreadable parts are skipped, and the exit code is then 1. The readable events of a file that was set aside have
    also been published, or are in another file with the same ids.
    """
    number = 0
    problems: list[str] = []
    with ExitStack() as stack:
        out = sys.stdout.buffer if str(output) == "-" else stack.enter_context(_new_file(output))
        for path in _all_files(_folder(read_settings(os.environ))):
            try:
                with readable(path) as source:
                    for entry in source:
                        out.write(entry.data + b"\n")
                        number += 1
            except sqlite3.Error as error:
                problems.append(f"{path.name} cannot be read: {error}.")
            else:
                if not source.complete:
                    problems.append(f"{path.name} is damaged: some of it cannot be read.")
        out.flush()
    for problem in problems:
        click.echo(f"receiver: {problem}", err=True)
    click.echo(f"{number:,} events exported.", err=True)
    if problems:
        sys.exit(1)


def _folder(settings: Settings) -> Path:
    """Return the spool's folder. Raises ReceiverError if it is not readable, which must not look like an empty one."""
    folder = settings.data_dir / "spool"
    with suppress(FileNotFoundError, NotADirectoryError):
        try:
            next(folder.iterdir(), None)
        except PermissionError as error:
            raise ReceiverError(
                f"cannot read {folder}: {error.strerror}. Run this as the user that runs `receiver serve`."
            ) from None
    return folder


def _all_files(folder: Path) -> list[Path]:
    return [*spool_files(folder), *suspect_files(folder), *files_set_aside(folder)]


def _new_file(path: Path) -> IO[bytes]:
    """Create a file. Never overwrites one: it may be the only copy of an earlier export."""
    try:
        return path.open("xb")
    except OSError as error:
        raise ReceiverError(f"cannot write {path}: {error.strerror}; name another file.") from None


def _print_status(folder: Path, found: list[FileStatus]) -> None:
    files = _table("file", "events", "disk", "oldest", "state")
    for one in found:
        oldest = moment(one.oldest, date=True) if one.oldest else ""
        files.add_row(one.file, f"{one.events:,}", decimal(one.bytes), oldest, _state(one))
    topics = _table("topic", "events")
    for topic, count in sum((Counter(one.topics) for one in found), Counter[str]()).most_common():
        topics.add_row(Text(topic), f"{count:,}")
    console = Console(highlight=False)
    console.print(f"{sum(one.events for one in found):,} events wait in {folder}", soft_wrap=True)
    console.print(files)
    if topics.rows:
        console.print(topics)


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in ("events", "disk") else "left", overflow="fold")
    return table


def _state(one: FileStatus) -> Text:
    if one.set_aside:
        return Text(f"{one.problem}", "red")
    if one.problem:
        return Text(f"cannot be read: {one.problem}", "red")
    if one.in_use:
        return Text("in use by a living process", "green")
    if one.parked:
        return Text(f"{one.parked:,} not taken by their topic", "red")
    return Text("free", "yellow" if one.events else "dim")


async def _drain(settings: Settings) -> tuple[int, list[str]]:
    """Return the number of published events, and the problems with others."""
    problems: list[str] = []
    async with connected(settings) as client:
        publisher = Publisher(client, REDIS_TIMEOUT, settings.dedupe_window)
        with bar(Console(stderr=True)) as progress:
            folder = _folder(settings)
            paths = spool_files(folder)
            task = progress.add_task("draining", total=sum(status(path).events for path in paths))

            async def on_progress(events: int) -> None:
                progress.advance(task, events)

            files = FileDrain([publisher], asyncio.to_thread, on_progress)
            try:
                for path in paths:
                    progress.update(task, description=path.name)
                    problems += await _drain_file(files, path, settings.spool_max_bytes)
                for path in suspect_files(folder):  # includes files just found damaged
                    progress.update(task, description=path.name)
                    problems += await _recover(files, path, settings.spool_max_bytes)
            finally:
                await publisher.close()
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
